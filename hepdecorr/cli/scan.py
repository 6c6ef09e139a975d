"""A scan: one tagger trained again and again with other values in its block, measured, and drawn."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from hepdecorr.card import Card
from hepdecorr.cli import checks, grid, measuring, show, training
from hepdecorr.cli.grid import Over, Point
from hepdecorr.cli.proof import revealed
from hepdecorr.cli.stamps import Stamp, code, command, digest, versions
from hepdecorr.config import Config, load
from hepdecorr.errors import InputError
from hepdecorr.table import EVENT_IDS, Arrays, Selection, Table
from hepdecorr.validation.measures import Evaluation


@dataclass(frozen=True)
class Trained:
    """One point with one seed, as far as it has been trained."""

    point: Point
    name: str  # POINT-SEED
    job: training.Job
    config: Config


class Scan:
    """The points of a scan of one tagger; `name` is that of its folder below OUTPUT/scans.

    A point is the config with other values in the tagger's block.  It is trained as `hepdecorr train` would,
    under the same key, so that what is finished is skipped and what was stopped goes on.
    """

    def __init__(
        self,
        config: Config,
        *,
        tagger: str,
        overs: Sequence[Over],
        seeds: Sequence[int],
        name: str = "",
        console: Console,
        say: Callable[[str, str], None],
    ) -> None:
        self.config, self.tagger, self.console, self.say = config, tagger, console, say
        self.titles, self.points, self.seeds = grid.titles(overs), grid.points(overs), list(seeds)
        self.name = name or "_".join([tagger, *self.titles.values()])
        if any(letter in self.name for letter in "/\\"):
            raise InputError(f"--name {self.name}: it names a folder below {self.config.output_folder}/scans")
        self.folder = self.config.output_folder / "scans" / self.name
        self.configs = {point: self._config(point) for point in self.points}

    def run(self, table: Table, *, redo: bool = False) -> Path:
        """Train what is missing, measure it, and write the page; the path of scan.html."""
        trained = [self._trained(point, seed, table) for point in self.points for seed in self.seeds]
        missing = [one.job for one in trained if redo or not one.job.finished()]
        if done := len(trained) - len(missing):
            self.say("scan", f"finished already: {done} of {len(trained)} trainings in {self.folder}")
        failed = {}
        if missing:
            failed = training.run(
                missing, self.config, console=self.console, say=self.say, redo=redo, tolerant=True
            )
        for key, reason in failed.items():
            label = next(one.name for one in trained if one.job.key == key)
            self.say("scan", f"  {label} failed: {reason}")
        found = [one for one in trained if one.job.key not in failed]
        if not found:
            raise InputError(f"{self.folder}: no point could be trained; {next(iter(failed.values()))}")
        page = self._write(found, failed, trained, table)
        self.say("scan", f"{len(found)} of {len(trained)} trainings complete; {page}")
        return page

    def _config(self, point: Point) -> Config:
        overrides = [*self.config.overrides, *point.overrides(self.tagger)]
        told = ", ".join(point.overrides("")).replace("taggers..", "")
        with show.blamed(f"--over {told}"):
            config = load(self.config.path, overrides=overrides)
            checks.methods(config, [self.tagger])
        return config

    def _trained(self, point: Point, seed: int, table: Table) -> Trained:
        config = self.configs[point]
        job = training.Job.of(config, table, tagger=self.tagger, seed=seed)
        slug = f"{point.slug(self.titles)}-{seed}"
        if not job.finished():  # else the analysis has trained this very point
            job = replace(
                job,
                folder=self.folder / "models" / slug,
                work=self.folder / "training" / slug,
                title=point.label(self.titles),
            )
        return Trained(point, slug, job, config)

    def _others(self, table: Table) -> list[Trained]:
        """The analysis' own taggers, as far as they are trained, to draw beside the scan."""
        found = []
        for tagger in self.config.taggers:
            for seed in self.seeds:
                job = training.Job.of(self.config, table, tagger=tagger, seed=seed)
                if job.finished():
                    found.append(Trained(Point(()), f"own {tagger}-{seed}", job, self.config))
        return found

    def _write(
        self, found: Sequence[Trained], failed: dict[str, str], trained: Sequence[Trained], table: Table
    ) -> Path:
        from hepdecorr.validation import scanned

        key = digest(
            [one.job.key for one in trained], sorted(failed), self.config.digest("report"), code("report")
        )
        stamp = Stamp(self.folder / "stamp.json", key)
        page = self.folder / "scan.html"
        if not failed and stamp.fits(page, self.folder / "points.json"):
            return page
        stamp.remove(page, self.folder / "points.json")
        others = self._others(table)
        cards, evaluations = measured(self.config, [*found, *others], table, console=self.console)
        content = scanned.ScanInput(
            name=self.name,
            title=self.config.title or self.config.name,
            tagger=self.tagger,
            keys=tuple(self.titles),
            titles=self.titles,
            points=[self._point(point, found, cards, evaluations, failed, trained) for point in self.points],
            others={
                tagger: [e for one in others if one.job.tagger == tagger for e in evaluations[one.name]]
                for tagger in dict.fromkeys(one.job.tagger for one in others)
            },
            histories={
                one.point.label(self.titles): _history(one.job.history)
                for one in found
                if one.job.seed == self.seeds[0]
            },
            command=command(),
            config_text=self.config.text + "".join(f"\n# --set {o}" for o in self.config.overrides),
            versions=versions(),
            table=table.fingerprint,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        with self.console.status("drawing the scan"):
            scanned.write_scan(self.folder, content)
        stamp.write(complete=not failed, trainings=len(found), of=len(trained))
        return page

    def _point(
        self,
        point: Point,
        found: Sequence[Trained],
        cards: dict[str, Card],
        evaluations: dict[str, list[Evaluation]],
        failed: dict[str, str],
        trained: Sequence[Trained],
    ) -> Any:
        from hepdecorr.validation.scanned import PointResult

        own = [one for one in found if one.point == point]
        return PointResult(
            label=point.label(self.titles),
            values=dict(point.values),
            evaluations=[measured for one in own for measured in evaluations[one.name]],
            cards=[json.loads(cards[one.name].to_json()) for one in own],
            folders=[os.path.relpath(one.job.folder, self.config.output_folder) for one in own],
            latents=[shown for one in own if (shown := revealed(one.job.folder, cards[one.name]))],
            failures=[failed[one.job.key] for one in trained if one.point == point and one.job.key in failed],
        )


def measured(
    config: Config, found: Sequence[Trained], table: Table, *, console: Any
) -> tuple[dict[str, Card], dict[str, list[Evaluation]]]:
    """Cards, and evaluations on the test events of the table, one per nuisance, by POINT-SEED."""
    from hepdecorr.columnar.tagger import OnnxTagger

    taggers = {one.name: OnnxTagger(one.job.folder, base=config.base) for one in found}
    events = scored(config, taggers, table, console=console)
    cards = {name: tagger.card for name, tagger in taggers.items()}
    return cards, measuring.one_by_one(config, events, cards, console=console)


def scored(config: Config, taggers: dict[str, Any], table: Table, *, console: Any) -> Arrays:
    """The test events of the table: nuisances, label, weight, numbers, groups, and the taggers' logits."""
    from hepdecorr.columnar.scoring import table_logits

    select = Selection("test", config.table_split)
    names = [*config.nuisances, "label", "weight", *EVENT_IDS, *table.names("group")]
    events = table.read(list(dict.fromkeys(names)), select=select)
    if not len(events["label"]):
        raise InputError(f"{table.folder}: no test events in it; give test folds, or datasets to test with")
    with show.progress(console) as bars:
        task = bars.add_task("score", total=len(taggers), note="")
        for name, tagger in taggers.items():
            events[name] = table_logits(tagger, table, select=select)
            bars.advance(task)
    return events


def _history(path: Path) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    return found
