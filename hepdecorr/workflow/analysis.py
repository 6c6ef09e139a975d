"""The steps of an analysis: each does its work unless its output is there and made from the same things."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console

from hepdecorr import registry
from hepdecorr.config.schema import Config
from hepdecorr.errors import InputError, suggest
from hepdecorr.table import Table
from hepdecorr.workflow import config_checks, group_codes
from hepdecorr.workflow import progress as progress_module
from hepdecorr.workflow.cache import (
    CacheStamp,
    digest,
    input_file_states,
    library_versions,
    source_digest,
    user_code_files,
)
from hepdecorr.workflow.extra_scores import resolve_extra_scores
from hepdecorr.workflow.groups import GroupSummary

# The sections that decide which rows there are and what is known of each.
_ROW_SECTIONS = ("samples", "objects", "constituents", "selection", "weights", "nuisances")


class Analysis:
    """One analysis, its steps in order; `only` narrows the taggers."""

    def __init__(self, config: Config, *, console: Console, only: list[str]) -> None:
        self.config, self.console = config, console
        for name in only:
            if name not in config.taggers:
                raise InputError(f"--only {name}: no such tagger{suggest(name, config.taggers)}")
        self.taggers = {k: v for k, v in config.taggers.items() if not only or k in only}
        self.output_folder = config.output_folder
        config_checks.check_feature_names(config)
        with self._prefix_errors("samples", "schema"):
            self._find_schema()
        for verb in ("table", "evaluate"):
            with self._prefix_errors("processors", verb):
                self._find_processor(verb)
        try:
            self.output_folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise InputError(
                f"{config.location_of('output')}: {self.output_folder}: cannot be made ({err.strerror}); "
                "give another folder"
            ) from None

    def build_table(self, *, redo: bool = False) -> Table:
        """ROOT files -> training table."""
        from hepdecorr.columnar import group_ids, table_writer

        config, folder = self.config, self.output_folder / "table"
        datasets = self._expand_datasets()
        processor_code = self._processor_source(config.processors.table)
        key = digest(
            config.digest(*_ROW_SECTIONS, "features"),
            config.split.folds,
            config.execution.skip_bad_files,
            input_file_states(datasets),
            source_digest("table"),
            processor_code,
            *self._user_code_files(),
            *config.group_by,
        )
        stamp = CacheStamp(folder / "stamp.json", key)
        if (
            not redo
            and stamp.is_valid(folder / "manifest.json")
            and (table := _open_valid_table(folder)) is not None
        ):
            self._print_status("table", f"finished already: {folder}")
            return table
        config_checks.check_branches(config, datasets)
        stamp.invalidate(folder / "manifest.json")
        processor = self._build_processor(
            "table",
            folder=folder,
            features=config.features,
            nuisances=self._nuisance_specs(),
            selection=[c.spec for c in config.selection],
            weights=config.weights,
            folds=config.split.folds,
            base=config.base,
            **self._optional_arguments(),
        )
        datasets = self._add_sum_of_weights(datasets)
        outcome = self._run_processor(
            processor, datasets, checkpoint_folder=self.output_folder / "table.part", key=key
        )
        table = table_writer.write_table_manifest(
            outcome.out["chunks"],
            folder=folder,
            columns=processor.columns,
            datasets=datasets,
            provenance=self._make_provenance(key) | {"completeness": outcome.report.to_dict()},
        )
        _remove_stale_shards(table)
        stamp.write(completeness=outcome.report.to_dict())
        shutil.rmtree(self.output_folder / "table.part", ignore_errors=True)
        self._print_status("table", f"{outcome.report.summary()}; {table.num_rows:,} rows in {folder}")
        if config.groups:
            lost = group_ids.count_lost_groups(outcome.out["chunks"], table)
            for text in GroupSummary.from_table(table, split=config.table_split).describe(
                row_name=self._row_name, num_emptied=lost
            ):
                self._print_status("table", text)
        return table

    def train(self, *, redo: bool = False) -> None:
        """Training table -> models/NAME/{tagger.onnx, card.yaml}, those that are missing."""
        from hepdecorr.workflow import train_jobs

        table = self._require_table()
        self.check_taggers()
        missing = []
        for name in self.taggers:
            for seed in self.config.seeds:
                job = train_jobs.TrainJob.create(self.config, table, tagger=name, seed=seed)
                if not redo and job.is_finished():
                    self._print_status("train", f"finished already: {job.model_folder}")
                else:
                    missing.append(job)
        for place, text in config_checks.find_data_warnings(
            self.config, table, {job.tagger for job in missing}
        ):
            self._print_status("train", f"{place}: {text}")
        if missing:
            train_jobs.run_jobs(
                missing, self.config, console=self.console, print_status=self._print_status, redo=redo
            )

    def evaluate(self, *, redo: bool = False) -> None:
        """Taggers applied to the test events -> histograms and scores."""
        from hepdecorr.columnar import histograms, table_writer

        config, folder = self.config, self.output_folder / "evaluation"
        if not config.samples.has_test_signal:
            raise InputError(
                f"{config.location_of('samples')}: taggers are evaluated on both classes, "
                "and no dataset of label "
                f"'signal' is there to test with; add one, or judge the groups' codes alone with 'hepdecorr "
                f"groups {config.path.name}'"
            )
        datasets = [d for d in self._expand_datasets() if d.use != "train"]
        models = self._model_folders()
        self._check_models_current(models)
        told = group_codes.open_conditioned_taggers(models, base=config.base)
        groups = group_codes.group_code_paths(told, folder=folder)
        key = digest(
            self._evaluation_digest(),
            config.report.images,
            self._systematics_files(),
            config.execution.skip_bad_files,
            input_file_states(datasets),
            {name: (path / "tagger.onnx") for name, path in models.items()},
            source_digest("evaluate"),
            self._processor_source(config.processors.evaluate),
            *self._user_code_files(),
            *([self._processor_source(config.processors.groups)] if told else []),
        )
        stamp = CacheStamp(folder / "stamp.json", key)
        outputs = folder / "scores" / "manifest.json", folder / "histograms.zip"
        if not redo and stamp.is_valid(*outputs, *groups.values()):
            self._print_status("evaluate", f"finished already: {folder}")
            return
        stamp.invalidate(*outputs)
        first = self._run_first_pass(told, models, datasets, redo=redo) if told else None
        processor = self._build_processor(
            "evaluate",
            taggers=models,
            nuisances=self._nuisance_specs(),
            selection=[c.spec for c in config.selection],
            weights=config.weights,
            split=config.table_split,
            score_table=folder / "scores",
            base=config.base,
            **self._extra_score_arguments(models),
            **self._optional_arguments(evaluate=True),
            **({"groups": groups} if groups else {}),
        )
        datasets = self._add_sum_of_weights(datasets)
        # What was scored with other codes, as those of a pass that missed a file, does not count as done.
        scored = digest(key, *groups.values()) if groups else key
        outcome = self._run_processor(
            processor, datasets, checkpoint_folder=self.output_folder / "evaluation.part", key=scored
        )
        if first is not None:
            again = f"run 'hepdecorr evaluate {config.path.name} --redo'"
            group_codes.check_same_events(first, outcome.report.to_dict(), advice=again)
        scores = table_writer.write_table_manifest(
            outcome.out["chunks"],
            folder=folder / "scores",
            columns=processor.columns,
            datasets=datasets,
            provenance=self._make_provenance(key) | {"completeness": outcome.report.to_dict()},
        )
        _remove_stale_shards(scores)
        histograms.save(outcome.out["histograms"], folder / "histograms.zip")
        stamp.write(
            completeness=outcome.report.to_dict(),
            asked=self._evaluation_digest(),
            taggers={name: digest(path / "tagger.onnx") for name, path in models.items()},
        )
        shutil.rmtree(self.output_folder / "evaluation.part", ignore_errors=True)
        self._print_status(
            "evaluate", f"{outcome.report.summary()}; {scores.num_rows:,} test {self._row_name} in {folder}"
        )

    def _run_first_pass(
        self,
        conditioned_taggers: Mapping[str, Any],
        models: Mapping[str, Path],
        datasets: list[Any],
        *,
        redo: bool,
    ) -> Mapping[str, Any]:
        """Codes of the test groups for taggers that are told of them -> evaluation/groups; how complete."""
        config, folder = self.config, self.output_folder / "evaluation"
        key = digest(
            self._evaluation_digest(),
            config.execution.skip_bad_files,
            input_file_states(datasets),
            {name: (models[name] / "tagger.onnx") for name in conditioned_taggers},
            source_digest("evaluate"),
            self._processor_source(config.processors.groups),
            *self._user_code_files(),
        )
        stamp = CacheStamp(folder / group_codes.GROUP_CODES_FOLDER / "stamp.json", key)
        found = CacheStamp.read_content(stamp.path)
        if (
            not redo
            and found is not None
            and stamp.is_valid(*group_codes.group_code_paths(conditioned_taggers, folder=folder).values())
        ):
            completeness: Mapping[str, Any] = found["completeness"]
            return completeness
        shutil.rmtree(folder / group_codes.GROUP_CODES_FOLDER, ignore_errors=True)
        given = {
            k: v for k, v in self._optional_arguments(evaluate=True).items() if k in ("objects", "group_by")
        }
        processor = self._build_processor(
            "groups",
            taggers={name: models[name] for name in conditioned_taggers},
            selection=[c.spec for c in config.selection],
            split=config.table_split,
            base=config.base,
            **given,
        )
        # Beside those of the second pass, with which they go when all is done.
        outcome = self._run_processor(
            processor,
            datasets,
            checkpoint_folder=self.output_folder / "evaluation.part" / group_codes.GROUP_CODES_FOLDER,
            key=key,
        )
        report: dict[str, Any] = outcome.report.to_dict()
        said = group_codes.write_group_codes(conditioned_taggers, outcome.out["groups"], folder=folder)
        stamp.write(completeness=report)
        self._print_status("evaluate", f"first pass {outcome.report.summary()}; {said}")
        return report

    def write_report(self, *, redo: bool = False) -> None:
        """Histograms and scores -> measures, plots and report.html."""
        from hepdecorr.workflow import report

        scores = self.output_folder / "evaluation"
        evaluated = CacheStamp.read_content(scores / "stamp.json")
        if evaluated is None:
            raise InputError(f"{scores}: not evaluated yet; run 'hepdecorr evaluate {self.config.path.name}'")
        models = self._model_folders()
        self._check_evaluation_current(evaluated, models)
        key = digest(evaluated["key"], self.config.digest(), list(self.taggers), source_digest("report"))
        stamp = CacheStamp(self.output_folder / "report" / "stamp.json", key)
        folder = self.output_folder / "report"
        if not redo and stamp.is_valid(folder / "report.html", folder / "metrics.json"):
            self._print_status("report", f"finished already: {folder / 'report.html'}")
            return
        stamp.invalidate(folder / "report.html", folder / "metrics.json")
        report.build_report(self.config, folder=folder, models=models, console=self.console)
        stamp.write()
        self._print_status("report", f"{folder / 'report.html'}, with figures and metrics.json beside it")

    def scan(
        self, tagger: str, parameters: Sequence[str], *, seeds: str = "", name: str = "", redo: bool = False
    ) -> Path:
        """One tagger trained with other values in its block, and what becomes of it: scans/NAME/scan.html."""
        from hepdecorr.workflow import scan
        from hepdecorr.workflow.scan import Scan

        if tagger not in self.config.taggers:
            known = suggest(tagger, self.config.taggers)
            raise InputError(f"--tagger {tagger}: no such tagger{known}")
        overs = [scan.ScanParameter.parse(text, tagger=tagger) for text in parameters]
        asked = scan.parse_seeds(seeds) if seeds else self.config.seeds
        about: dict[str, Any] = {"console": self.console, "print_status": self._print_status}
        return Scan(self.config, tagger=tagger, parameters=overs, seeds=asked, name=name, **about).run(
            self._require_table(), redo=redo
        )

    def compare(self, scans: Sequence[str] = ()) -> Path:
        """All taggers, and the points of scans, beside each other: compare/compare.html."""
        from hepdecorr.workflow import comparison

        scores = self.output_folder / "evaluation"
        evaluated = CacheStamp.read_content(scores / "stamp.json")
        if evaluated is None:
            raise InputError(f"{scores}: not evaluated yet; run 'hepdecorr evaluate {self.config.path.name}'")
        models = self._model_folders()
        self._check_evaluation_current(evaluated, models)
        table = self._require_table() if scans else None
        page = comparison.run_comparison(
            self.config, models=models, scans=scans, table=table, console=self.console
        )
        self._print_status("compare", f"{page}, with compare.csv and compare.json beside it")
        return page

    def sample_jets(self, *, jets: int, seed: int, redo: bool = False) -> list[Path]:
        """Write jet_generation/TAGGER-SEED/jet_generation.html for each tagger with a decoder."""
        from hepdecorr.workflow import jet_generation

        table, pages = self._require_table(), []
        for name, model in jet_generation.find_models_with_decoder(self._model_folders()).items():
            folder = self.output_folder / "jet_generation" / name
            key = digest(table.fingerprint, model / "tagger.onnx", jets, seed, source_digest("sample-jets"))
            stamp = CacheStamp(folder / "stamp.json", key)
            page = folder / "jet_generation.html"
            outputs = page, folder / "jet_generation.json", folder / jet_generation.JETS_FILE
            pages.append(page)
            if not redo and stamp.is_valid(*outputs):
                self._print_status("sample-jets", f"finished already: {page}")
                continue
            stamp.invalidate(*outputs)
            about: dict[str, Any] = {"table": table, "jets": jets, "seed": seed, "console": self.console}
            jet_generation.run_jet_generation(self.config, name=name, model=model, folder=folder, **about)
            stamp.write()
            self._print_status("sample-jets", f"{page}, with jet_generation.json and the jets beside it")
        return pages

    def evaluate_group_codes(self, *, redo: bool = False) -> Path:
        """Evaluate the codes of groups and events on the test groups: group_codes/group_codes.html."""
        from hepdecorr.workflow import group_codes

        table, models, folder = (
            self._require_table(),
            self._model_folders(),
            self.output_folder / "group_codes",
        )
        self._check_models_current(models)
        about: dict[str, Any] = {"table": table, "folder": folder, "console": self.console}
        page, finished = group_codes.run_group_codes(self.config, models=models, redo=redo, **about)
        self._print_status(
            "group-codes", f"finished already: {page}" if finished else f"{page}, with group_codes.json"
        )
        return page

    def check_taggers(self) -> None:
        """Whether every tagger's block can be built; InputError names the line of one that cannot."""
        config_checks.check_taggers(self.config, list(self.taggers))

    def _prefix_errors(self, *keys: str | int) -> Any:
        return progress_module.prefix_errors(self.config.location_of(*keys))

    def _find_schema(self) -> Any:
        name = self.config.samples.schema_
        return registry.find(name, namespace="hepdecorr.columnar.schemas", base=self.config.base)

    def _find_processor(self, step: str) -> Any:
        name = getattr(self.config.processors, step)
        return registry.find(name, namespace="hepdecorr.columnar", base=self.config.base)

    def _build_processor(self, step: str, **arguments: Any) -> Any:
        with self._prefix_errors("processors", step):
            name = getattr(self.config.processors, step)
            return registry.build(
                {"type": name, **arguments}, namespace="hepdecorr.columnar", base=self.config.base
            )

    def _processor_source(self, name: str) -> str:
        where = name.rpartition(":")[0]
        return (self.config.base / where).read_text() if where.endswith(".py") else name

    def _user_code_files(self) -> list[Path]:
        """The user's files with features, cuts and schemas."""
        content = self.config.model_dump(mode="json", by_alias=True)
        return user_code_files(
            [content[s] for s in (*_ROW_SECTIONS, "features", "systematics")], base=self.config.base
        )

    def _systematics_files(self) -> list[Path]:
        """Corrections that shifts read; one that is missing is told of when they are built."""
        from hepdecorr.columnar import systematics

        return [
            path
            for path in systematics.list_correction_files(self.config.systematics, self.config.base)
            if path.is_file()
        ]

    def _expand_datasets(self) -> list[Any]:
        from hepdecorr.columnar import filesets

        samples = self.config.samples
        spec: Any = samples.fileset or {k: v.spec for k, v in samples.datasets.items()}
        with self._prefix_errors("samples"):
            alone = not samples.has_signal
            return list(filesets.expand_fileset(spec, base=self.config.base, background_only=alone))

    def _nuisance_specs(self) -> dict[str, dict[str, Any]]:
        return {k: v.spec for k, v in self.config.nuisances.items()}

    def _optional_arguments(self, *, evaluate: bool = False) -> dict[str, Any]:
        """What processors take in addition where rows are objects; a user's older one need not know of it."""
        config = self.config
        given: dict[str, Any] = {}
        if config.objects:
            given["objects"] = config.objects_spec
        if config.groups:
            given["group_by"] = config.group_by
        if config.constituents and not evaluate:
            given["constituents"] = config.constituents.model_dump()
        if config.constituents and config.report.images and evaluate:
            given["jet_images"] = True
        if config.systematics and evaluate:
            with self._prefix_errors("systematics"):
                given["systematics"] = config.systematics
        return given

    def _run_processor(
        self, processor: Any, datasets: list[Any], *, checkpoint_folder: Path, key: str
    ) -> Any:
        from hepdecorr.columnar import runner

        progress = not self.console.quiet
        return runner.run(
            datasets,
            processor,
            checkpoints=checkpoint_folder,
            fingerprint=key,
            progress=progress,
            **self._run_options(),
        )

    def _add_sum_of_weights(self, datasets: list[Any]) -> list[Any]:
        """The datasets, with the sum of weights of those that have a cross-section and no sum."""
        from hepdecorr.columnar.sum_of_weights import with_sumw

        return with_sumw(datasets, self.config.weights, base=self.config.base, **self._run_options())

    def _run_options(self) -> dict[str, Any]:
        settings = self.config.execution.model_dump()
        return {"treename": self.config.samples.tree, "schema": self._find_schema(), **settings}

    def _evaluation_digest(self) -> str:
        asked = self.config.digest(
            *_ROW_SECTIONS, "split", "systematics", *(["extra_scores"] if self.config.extra_scores else [])
        )
        return digest(asked, *self.config.group_by) if self.config.groups else asked

    def _extra_score_arguments(self, models: Mapping[str, Path]) -> dict[str, Any]:
        """The further scores, as the processor takes them; one of a user's need not know of them."""
        return {"extra_scores": resolve_extra_scores(self.config, models)} if self.config.extra_scores else {}

    def _check_evaluation_current(self, stamp_content: Mapping[str, Any], models: Mapping[str, Path]) -> None:
        """Whether the scores are those of this config and of the taggers as they are now."""
        again = f"run 'hepdecorr evaluate {self.config.path.name}' first"
        folder = self.output_folder / "evaluation"
        if stamp_content.get("asked", self._evaluation_digest()) != self._evaluation_digest():
            raise InputError(f"{folder}: evaluated with another config; {again}")
        known = stamp_content.get("taggers", {})
        for name, path in models.items():
            if name in known and known[name] != digest(path / "tagger.onnx"):
                raise InputError(f"{folder}: {name} has been trained again since it was evaluated; {again}")
            if (path / "corrections.json").is_file():
                self._print_status(
                    "measure",
                    f"{name}: cuts of its corrections.json fill the histograms, but measures and comparisons "
                    "look at the logit without them; for those write 'export: onnx'",
                )

    def _require_table(self) -> Table:
        folder = self.output_folder / "table"
        if CacheStamp.read_content(folder / "stamp.json") is None:
            raise InputError(
                f"{folder}: no finished table; run 'hepdecorr table {self.config.path.name}' first"
            )
        table = Table.open(folder)
        for role, names in config_checks.expected_columns(self.config).items():
            if sorted(table.column_names(role)) != sorted(names):
                raise InputError(
                    f"{folder}: made with other {role}s than the config now has; "
                    f"run 'hepdecorr table {self.config.path.name}' first"
                )
        named = ", ".join(self.config.group_by)
        for name in table.column_names("group"):
            if table.column(name).title != named:
                raise InputError(
                    f"{folder}: made with groups of {table.column(name).title}, and the config has {named}; "
                    f"run 'hepdecorr table {self.config.path.name}' first"
                )
        return table

    def _model_folders(self) -> dict[str, Path]:
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

    def _check_models_current(self, models: Mapping[str, Path]) -> None:
        """Whether the taggers are those of this config and table, where there is a table to ask."""
        from hepdecorr.columnar.tagger import OnnxTagger
        from hepdecorr.workflow import train_jobs

        if CacheStamp.read_content(self.output_folder / "table" / "stamp.json") is None:
            return
        table = self._require_table()
        for name, folder in models.items():
            tagger, _, seed = name.rpartition("-")
            job = train_jobs.TrainJob.create(self.config, table, tagger=tagger, seed=int(seed))
            if OnnxTagger(folder, base=self.config.base).card.config_hash != job.key:
                again = f"run 'hepdecorr train {self.config.path.name}'"
                raise InputError(f"{folder}: trained from another table or config; {again}")

    def _make_provenance(self, key: str) -> dict[str, Any]:
        config = {"file": self.config.path.name, "text": self.config.text}
        # Of objects the files themselves tell, chunk by chunk.
        conventions = {} if self.config.objects else {"schema": self._find_schema().__name__}
        return {
            "fingerprint": key,
            "config": config,
            "conventions": conventions,
            "versions": library_versions(),
        }

    @property
    def _row_name(self) -> str:
        return f"entries of {self.config.objects.collection}" if self.config.objects else "events"

    def _print_status(self, step: str, text: str) -> None:
        self.console.print(f"[bold]{step}[/] {text}", highlight=False, soft_wrap=True)


def _open_valid_table(folder: Path) -> Table | None:
    """The finished table; None where it is damaged, so that it is made again."""
    try:
        return Table.open(folder)
    except InputError:
        return None


def _remove_stale_shards(table: Table) -> None:
    """Remove shards of an earlier table, which the manifest does not name."""
    named = {table.folder / s.file for s in table.shards}
    for path in table.folder.rglob("*.parquet*"):
        if path not in named:
            path.unlink()


def generate_sample(console: Console, sample: str, process: str, *, out: Path, **options: Any) -> None:
    """Run the generator of a sample, with a bar."""
    from hepdecorr.samples import find_generator

    room = find_generator(sample)
    with progress_module.progress_bars(console) as bars:
        total = next(filter(None, map(options.get, ("events", "candidates", "jets", "groups"))), None)
        task = bars.add_task(f"{sample} {process}", total=total, note="")
        summary = room.generate(
            process, out=out, progress=progress_module.TaskProgress(bars, task), **options
        )
    console.print(
        f"[bold]{out}[/]: {summary.num_stored:,} {summary.object_name} from "
        f"{summary.num_events:,} {summary.event_unit} "
        f"in {summary.seconds:.0f} s",
        highlight=False,
        soft_wrap=True,
    )
    for step, count in summary.cutflow.items():
        console.print(f"  {step:24} {count:>12,}", highlight=False)


def create_scaffold(console: Console, folder: Path) -> None:
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
