"""The steps of an analysis: each does its work unless its output is there and made from the same things."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console

from hepdecorr import catalogue
from hepdecorr.cli import checks, codes, show
from hepdecorr.cli.census import Census
from hepdecorr.cli.scores import wanted
from hepdecorr.cli.stamps import Stamp, code, digest, inputs, own_code, versions
from hepdecorr.config import Config
from hepdecorr.errors import InputError
from hepdecorr.table import Table

# The sections that decide which rows there are and what is known of each.
_ROWS = ("samples", "objects", "constituents", "selection", "weights", "nuisances")


class Analysis:
    """One analysis, its steps in order; `only` narrows the taggers."""

    def __init__(self, config: Config, *, console: Console, only: list[str]) -> None:
        self.config, self.console = config, console
        for name in only:
            if name not in config.taggers:
                raise InputError(f"--only {name}: no such tagger{catalogue.suggest(name, config.taggers)}")
        self.taggers = {k: v for k, v in config.taggers.items() if not only or k in only}
        self.output = config.output_folder
        checks.names(config)
        with self._blamed("samples", "schema"):
            self._schema()
        for verb in ("table", "evaluate"):
            with self._blamed("processors", verb):
                self._find_processor(verb)
        try:
            self.output.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise InputError(
                f"{config.at('output')}: {self.output}: cannot be made ({err.strerror}); give another folder"
            ) from None

    def table(self, *, redo: bool = False) -> Table:
        """ROOT files -> training table."""
        from hepdecorr.columnar import group_ids, rows

        config, folder = self.config, self.output / "table"
        datasets = self._datasets()
        processor_code = self._code_of(config.processors.table)
        key = digest(
            config.digest(*_ROWS, "features"),
            config.split.folds,
            config.running.skip_bad_files,
            inputs(datasets),
            code("table"),
            processor_code,
            *self._own_code(),
            *config.grouped_by,
        )
        stamp = Stamp(folder / "stamp.json", key)
        if not redo and stamp.fits(folder / "manifest.json") and (table := _opened(folder)) is not None:
            self._say("table", f"finished already: {folder}")
            return table
        checks.branches(config, datasets)
        stamp.remove(folder / "manifest.json")
        processor = self._processor(
            "table",
            folder=folder,
            features=config.features,
            nuisances=self._nuisances(),
            selection=[c.spec for c in config.selection],
            weights=config.weights,
            folds=config.split.folds,
            base=config.base,
            **self._objects(),
        )
        datasets = self._weighted(datasets)
        outcome = self._run(processor, datasets, part=self.output / "table.part", key=key)
        table = rows.finish_table(
            outcome.out["chunks"],
            folder=folder,
            columns=processor.columns,
            datasets=datasets,
            provenance=self._provenance(key) | {"completeness": outcome.report.to_dict()},
        )
        _drop_strays(table)
        stamp.write(completeness=outcome.report.to_dict())
        shutil.rmtree(self.output / "table.part", ignore_errors=True)
        self._say("table", f"{outcome.report.summary()}; {table.rows:,} rows in {folder}")
        if config.groups:
            lost = group_ids.emptied(outcome.out["chunks"], table)
            for text in Census.of(table, split=config.table_split).told(noun=self._noun, lost=lost):
                self._say("table", text)
        return table

    def train(self, *, redo: bool = False) -> None:
        """Training table -> models/NAME/{tagger.onnx, card.yaml}, those that are missing."""
        from hepdecorr.cli import training

        table = self._ready_table()
        self.check_methods()
        missing = []
        for name in self.taggers:
            for seed in self.config.seeds:
                job = training.Job.of(self.config, table, tagger=name, seed=seed)
                if not redo and job.finished():
                    self._say("train", f"finished already: {job.folder}")
                else:
                    missing.append(job)
        for place, text in checks.odd(self.config, table, {job.tagger for job in missing}):
            self._say("train", f"{place}: {text}")
        if missing:
            training.run(missing, self.config, console=self.console, say=self._say, redo=redo)

    def evaluate(self, *, redo: bool = False) -> None:
        """Taggers applied to the test events -> histograms and scores."""
        from hepdecorr.columnar import histograms, rows

        config, folder = self.config, self.output / "evaluation"
        if not config.samples.tests_on_signal:
            raise InputError(
                f"{config.at('samples')}: taggers are evaluated on both classes, and no dataset of label "
                f"'signal' is there to test with; add one, or judge the groups' codes alone with 'hepdecorr "
                f"groups {config.path.name}'"
            )
        datasets = [d for d in self._datasets() if d.use != "train"]
        models = self._models()
        self._check_up_to_date(models)
        told = codes.told(models, base=config.base)
        groups = codes.files(told, folder=folder)
        key = digest(
            self._asked_of_evaluation(),
            config.report.images,
            self._shift_files(),
            config.running.skip_bad_files,
            inputs(datasets),
            {name: (path / "tagger.onnx") for name, path in models.items()},
            code("evaluate"),
            self._code_of(config.processors.evaluate),
            *self._own_code(),
            *([self._code_of(config.processors.groups)] if told else []),
        )
        stamp = Stamp(folder / "stamp.json", key)
        outputs = folder / "scores" / "manifest.json", folder / "histograms.zip"
        if not redo and stamp.fits(*outputs, *groups.values()):
            self._say("evaluate", f"finished already: {folder}")
            return
        stamp.remove(*outputs)
        first = self._first_pass(told, models, datasets, redo=redo) if told else None
        processor = self._processor(
            "evaluate",
            taggers=models,
            nuisances=self._nuisances(),
            selection=[c.spec for c in config.selection],
            weights=config.weights,
            split=config.table_split,
            folder=folder / "scores",
            base=config.base,
            **self._scores(models),
            **self._objects(evaluate=True),
            **({"groups": groups} if groups else {}),
        )
        datasets = self._weighted(datasets)
        # What was scored with other codes, as those of a pass that missed a file, does not count as done.
        scored = digest(key, *groups.values()) if groups else key
        outcome = self._run(processor, datasets, part=self.output / "evaluation.part", key=scored)
        if first is not None:
            again = f"run 'hepdecorr evaluate {config.path.name} --redo'"
            codes.check_complete(first, outcome.report.to_dict(), again=again)
        scores = rows.finish_table(
            outcome.out["chunks"],
            folder=folder / "scores",
            columns=processor.columns,
            datasets=datasets,
            provenance=self._provenance(key) | {"completeness": outcome.report.to_dict()},
        )
        _drop_strays(scores)
        histograms.save(outcome.out["histograms"], folder / "histograms.zip")
        stamp.write(
            completeness=outcome.report.to_dict(),
            asked=self._asked_of_evaluation(),
            taggers={name: digest(path / "tagger.onnx") for name, path in models.items()},
        )
        shutil.rmtree(self.output / "evaluation.part", ignore_errors=True)
        self._say("evaluate", f"{outcome.report.summary()}; {scores.rows:,} test {self._noun} in {folder}")

    def _first_pass(
        self, told: Mapping[str, Any], models: Mapping[str, Path], datasets: list[Any], *, redo: bool
    ) -> Mapping[str, Any]:
        """Codes of the test groups for taggers that are told of them -> evaluation/groups; how complete."""
        config, folder = self.config, self.output / "evaluation"
        key = digest(
            self._asked_of_evaluation(),
            config.running.skip_bad_files,
            inputs(datasets),
            {name: (models[name] / "tagger.onnx") for name in told},
            code("evaluate"),
            self._code_of(config.processors.groups),
            *self._own_code(),
        )
        stamp = Stamp(folder / codes.FOLDER / "stamp.json", key)
        found = Stamp.read(stamp.path)
        if not redo and found is not None and stamp.fits(*codes.files(told, folder=folder).values()):
            completeness: Mapping[str, Any] = found["completeness"]
            return completeness
        shutil.rmtree(folder / codes.FOLDER, ignore_errors=True)
        given = {k: v for k, v in self._objects(evaluate=True).items() if k in ("objects", "grouped_by")}
        processor = self._processor(
            "groups",
            taggers={name: models[name] for name in told},
            selection=[c.spec for c in config.selection],
            split=config.table_split,
            base=config.base,
            **given,
        )
        # Beside those of the second pass, with which they go when all is done.
        outcome = self._run(processor, datasets, part=self.output / "evaluation.part" / codes.FOLDER, key=key)
        report: dict[str, Any] = outcome.report.to_dict()
        said = codes.write(told, outcome.out["groups"], folder=folder)
        stamp.write(completeness=report)
        self._say("evaluate", f"first pass {outcome.report.summary()}; {said}")
        return report

    def report(self, *, redo: bool = False) -> None:
        """Histograms and scores -> measures, plots and report.html."""
        from hepdecorr.cli import proof

        scores = self.output / "evaluation"
        evaluated = Stamp.read(scores / "stamp.json")
        if evaluated is None:
            raise InputError(f"{scores}: not evaluated yet; run 'hepdecorr evaluate {self.config.path.name}'")
        models = self._models()
        self._check_evaluated(evaluated, models)
        key = digest(evaluated["key"], self.config.digest(), list(self.taggers), code("report"))
        stamp = Stamp(self.output / "report" / "stamp.json", key)
        folder = self.output / "report"
        if not redo and stamp.fits(folder / "report.html", folder / "metrics.json"):
            self._say("report", f"finished already: {folder / 'report.html'}")
            return
        stamp.remove(folder / "report.html", folder / "metrics.json")
        proof.write(self.config, folder=folder, models=models, console=self.console)
        stamp.write()
        self._say("report", f"{folder / 'report.html'}, with figures and metrics.json beside it")

    def scan(
        self, tagger: str, over: Sequence[str], *, seeds: str = "", name: str = "", redo: bool = False
    ) -> Path:
        """One tagger trained with other values in its block, and what becomes of it: scans/NAME/scan.html."""
        from hepdecorr.cli import grid
        from hepdecorr.cli.scan import Scan

        if tagger not in self.config.taggers:
            known = catalogue.suggest(tagger, self.config.taggers)
            raise InputError(f"--tagger {tagger}: no such tagger{known}")
        overs = [grid.Over.read(text, tagger=tagger) for text in over]
        asked = grid.seeds(seeds) if seeds else self.config.seeds
        about: dict[str, Any] = {"console": self.console, "say": self._say}
        return Scan(self.config, tagger=tagger, overs=overs, seeds=asked, name=name, **about).run(
            self._ready_table(), redo=redo
        )

    def compare(self, scans: Sequence[str] = ()) -> Path:
        """All taggers, and the points of scans, beside each other: compare/compare.html."""
        from hepdecorr.cli import comparison

        scores = self.output / "evaluation"
        evaluated = Stamp.read(scores / "stamp.json")
        if evaluated is None:
            raise InputError(f"{scores}: not evaluated yet; run 'hepdecorr evaluate {self.config.path.name}'")
        models = self._models()
        self._check_evaluated(evaluated, models)
        table = self._ready_table() if scans else None
        page = comparison.write(self.config, models=models, scans=scans, table=table, console=self.console)
        self._say("compare", f"{page}, with compare.csv and compare.json beside it")
        return page

    def imagine(self, *, jets: int, seed: int, redo: bool = False) -> list[Path]:
        """Jets that each training of taggers with a decoder makes: imagined/TAGGER-SEED/imagined.html."""
        from hepdecorr.cli import imagining

        table, pages = self._ready_table(), []
        for name, model in imagining.decoding(self._models()).items():
            folder = self.output / "imagined" / name
            key = digest(table.fingerprint, model / "tagger.onnx", jets, seed, code("imagine"))
            stamp = Stamp(folder / "stamp.json", key)
            page = folder / "imagined.html"
            outputs = page, folder / "imagined.json", folder / imagining.JETS
            pages.append(page)
            if not redo and stamp.fits(*outputs):
                self._say("imagine", f"finished already: {page}")
                continue
            stamp.remove(*outputs)
            about: dict[str, Any] = {"table": table, "jets": jets, "seed": seed, "console": self.console}
            imagining.write(self.config, name=name, model=model, folder=folder, **about)
            stamp.write()
            self._say("imagine", f"{page}, with imagined.json and the jets beside it")
        return pages

    def groups(self, *, redo: bool = False) -> Path:
        """Codes of groups and events of the taggers that have them, on test groups: groups/groups.html."""
        from hepdecorr.cli import coded

        table, models, folder = self._ready_table(), self._models(), self.output / "groups"
        self._check_up_to_date(models)
        about: dict[str, Any] = {"table": table, "folder": folder, "console": self.console}
        page, finished = coded.write(self.config, models=models, redo=redo, **about)
        self._say("groups", f"finished already: {page}" if finished else f"{page}, with groups.json")
        return page

    def check_methods(self) -> None:
        """Whether every tagger's block can be built; InputError names the line of one that cannot."""
        checks.methods(self.config, list(self.taggers))

    def _blamed(self, *place: str | int) -> Any:
        return show.blamed(self.config.at(*place))

    def _schema(self) -> Any:
        name = self.config.samples.schema_
        return catalogue.find(name, home="hepdecorr.columnar.schemas", base=self.config.base)

    def _find_processor(self, verb: str) -> Any:
        name = getattr(self.config.processors, verb)
        return catalogue.find(name, home="hepdecorr.columnar", base=self.config.base)

    def _processor(self, verb: str, **arguments: Any) -> Any:
        with self._blamed("processors", verb):
            name = getattr(self.config.processors, verb)
            return catalogue.build(
                {"type": name, **arguments}, home="hepdecorr.columnar", base=self.config.base
            )

    def _code_of(self, name: str) -> str:
        where = name.rpartition(":")[0]
        return (self.config.base / where).read_text() if where.endswith(".py") else name

    def _own_code(self) -> list[Path]:
        """The user's files with features, cuts and schemas."""
        content = self.config.model_dump(mode="json", by_alias=True)
        return own_code([content[s] for s in (*_ROWS, "features", "shifts")], base=self.config.base)

    def _shift_files(self) -> list[Path]:
        """Corrections that shifts read; one that is missing is told of when they are built."""
        from hepdecorr.columnar import shifts

        return [path for path in shifts.files(self.config.shifts, self.config.base) if path.is_file()]

    def _datasets(self) -> list[Any]:
        from hepdecorr.columnar import filesets

        samples = self.config.samples
        spec: Any = samples.fileset or {k: v.spec for k, v in samples.datasets.items()}
        with self._blamed("samples"):
            alone = not samples.has_signal
            return list(filesets.expand(spec, base=self.config.base, alone=alone))

    def _nuisances(self) -> dict[str, dict[str, Any]]:
        return {k: v.spec for k, v in self.config.nuisances.items()}

    def _objects(self, *, evaluate: bool = False) -> dict[str, Any]:
        """What processors take in addition where rows are objects; a user's older one need not know of it."""
        config = self.config
        given: dict[str, Any] = {}
        if config.objects:
            given["objects"] = config.objects_spec
        if config.groups:
            given["grouped_by"] = config.grouped_by
        if config.constituents and not evaluate:
            given["constituents"] = config.constituents.model_dump()
        if config.constituents and config.report.images and evaluate:
            given["pictures"] = True
        if config.shifts and evaluate:
            with self._blamed("shifts"):
                given["shifts"] = config.shifts
        return given

    def _run(self, processor: Any, datasets: list[Any], *, part: Path, key: str) -> Any:
        from hepdecorr.columnar import running

        progress = not self.console.quiet
        return running.run(
            datasets, processor, checkpoints=part, fingerprint=key, progress=progress, **self._options()
        )

    def _weighted(self, datasets: list[Any]) -> list[Any]:
        """The datasets, with the sum of weights of those that have a cross-section and no sum."""
        from hepdecorr.columnar.weighting import with_sumw

        return with_sumw(datasets, self.config.weights, base=self.config.base, **self._options())

    def _options(self) -> dict[str, Any]:
        settings = self.config.running.model_dump()
        return {"treename": self.config.samples.tree, "schema": self._schema(), **settings}

    def _asked_of_evaluation(self) -> str:
        asked = self.config.digest(*_ROWS, "split", "shifts", *(["scores"] if self.config.scores else []))
        return digest(asked, *self.config.grouped_by) if self.config.groups else asked

    def _scores(self, models: Mapping[str, Path]) -> dict[str, Any]:
        """The further scores, as the processor takes them; one of a user's need not know of them."""
        return {"scores": wanted(self.config, models)} if self.config.scores else {}

    def _check_evaluated(self, evaluated: Mapping[str, Any], models: Mapping[str, Path]) -> None:
        """Whether the scores are those of this config and of the taggers as they are now."""
        again = f"run 'hepdecorr evaluate {self.config.path.name}' first"
        folder = self.output / "evaluation"
        if evaluated.get("asked", self._asked_of_evaluation()) != self._asked_of_evaluation():
            raise InputError(f"{folder}: evaluated with another config; {again}")
        known = evaluated.get("taggers", {})
        for name, path in models.items():
            if name in known and known[name] != digest(path / "tagger.onnx"):
                raise InputError(f"{folder}: {name} has been trained again since it was evaluated; {again}")
            if (path / "corrections.json").is_file():
                self._say(
                    "measure",
                    f"{name}: cuts of its corrections.json fill the histograms, but measures and comparisons "
                    "look at the logit without them; for those write 'into: graph'",
                )

    def _ready_table(self) -> Table:
        folder = self.output / "table"
        if Stamp.read(folder / "stamp.json") is None:
            raise InputError(
                f"{folder}: no finished table; run 'hepdecorr table {self.config.path.name}' first"
            )
        table = Table.open(folder)
        for role, names in checks.columns(self.config).items():
            if sorted(table.names(role)) != sorted(names):
                raise InputError(
                    f"{folder}: made with other {role}s than the config now has; "
                    f"run 'hepdecorr table {self.config.path.name}' first"
                )
        named = ", ".join(self.config.grouped_by)
        for name in table.names("group"):
            if table.column(name).title != named:
                raise InputError(
                    f"{folder}: made with groups of {table.column(name).title}, and the config has {named}; "
                    f"run 'hepdecorr table {self.config.path.name}' first"
                )
        return table

    def _models(self) -> dict[str, Path]:
        """Folder of each trained tagger, by TAGGER-SEED."""
        models = {}
        for name in self.taggers:
            for seed in self.config.seeds:
                folder = self.config.models_folder / f"{self.config.name}-{name}-{seed}"
                if not (folder / "tagger.onnx").is_file():
                    raise InputError(
                        f"{folder}: no tagger there; run 'hepdecorr train {self.config.path.name}' first"
                    )
                models[f"{name}-{seed}"] = folder
        return models

    def _check_up_to_date(self, models: Mapping[str, Path]) -> None:
        """Whether the taggers are those of this config and table, where there is a table to ask."""
        from hepdecorr.cli import training
        from hepdecorr.columnar.tagger import OnnxTagger

        if Stamp.read(self.output / "table" / "stamp.json") is None:
            return
        table = self._ready_table()
        for name, folder in models.items():
            tagger, _, seed = name.rpartition("-")
            job = training.Job.of(self.config, table, tagger=tagger, seed=int(seed))
            if OnnxTagger(folder, base=self.config.base).card.config_hash != job.key:
                again = f"run 'hepdecorr train {self.config.path.name}'"
                raise InputError(f"{folder}: trained from another table or config; {again}")

    def _provenance(self, key: str) -> dict[str, Any]:
        config = {"file": self.config.path.name, "text": self.config.text}
        # Of objects the files themselves tell, chunk by chunk.
        conventions = {} if self.config.objects else {"schema": self._schema().__name__}
        return {"fingerprint": key, "config": config, "conventions": conventions, "versions": versions()}

    @property
    def _noun(self) -> str:
        return f"entries of {self.config.objects.collection}" if self.config.objects else "events"

    def _say(self, step: str, text: str) -> None:
        self.console.print(f"[bold]{step}[/] {text}", highlight=False, soft_wrap=True)


def _opened(folder: Path) -> Table | None:
    """The finished table; None where it is damaged, so that it is made again."""
    try:
        return Table.open(folder)
    except InputError:
        return None


def _drop_strays(table: Table) -> None:
    """Remove shards of an earlier table, which the manifest does not name."""
    named = {table.folder / s.file for s in table.shards}
    for path in table.folder.rglob("*.parquet*"):
        if path not in named:
            path.unlink()


def generate(console: Console, sample: str, process: str, *, out: Path, **options: Any) -> None:
    """Run the generator of a sample, with a bar."""
    from hepdecorr.samples import find_sample

    room = find_sample(sample)
    with show.progress(console) as bars:
        total = next(filter(None, map(options.get, ("events", "candidates", "jets", "groups"))), None)
        task = bars.add_task(f"{sample} {process}", total=total, note="")
        summary = room.generate(process, out=out, progress=show.Advance(bars, task), **options)
    console.print(
        f"[bold]{out}[/]: {summary.stored:,} {summary.noun} from {summary.events:,} {summary.unit} "
        f"in {summary.seconds:.0f} s",
        highlight=False,
        soft_wrap=True,
    )
    for step, count in summary.cutflow.items():
        console.print(f"  {step:24} {count:>12,}", highlight=False)


def scaffold(console: Console, folder: Path) -> None:
    """Copy processors/ and analysis_configs/ to `folder`, to edit there."""
    inside = Path(str(resources.files("hepdecorr"))) / "scaffold"
    # In an editable install the two folders stand beside the package.
    source = inside if inside.is_dir() else Path(str(resources.files("hepdecorr"))).parent
    for name in ("processors", "analysis_configs"):
        if (folder / name).exists():
            raise InputError(f"{folder / name}: already there; give a new folder")
    for name in ("processors", "analysis_configs"):
        shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    console.print(
        f"made {folder}; now: hepdecorr run {folder / 'analysis_configs' / 'bsgamma.yaml'}", soft_wrap=True
    )
