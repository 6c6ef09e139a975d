"""What a scan goes over: values of keys of a tagger's block, and all their combinations.

A scan: one tagger trained again and again with other values in its block, measured, and drawn.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hepdecorr.config.schema import Config, load_config
from hepdecorr.config.yaml_source import format_value, parse_value_list
from hepdecorr.errors import InputError, suggest
from hepdecorr.evaluation.metrics import Evaluation
from hepdecorr.model_card import ModelCard
from hepdecorr.table import EVENT_IDS, Arrays, Selection, Table
from hepdecorr.workflow import config_checks, evaluate_metrics, progress, train_jobs
from hepdecorr.workflow.cache import CacheStamp, command_line, digest, library_versions, source_digest
from hepdecorr.workflow.report import load_latents

MAX_POINTS = 500  # points of one scan
RANGE_KINDS = ("lin", "log")


@dataclass(frozen=True)
class ScanParameter:
    """A key of the tagger's block, such as terms.0.strength, and the values that it takes."""

    key: str
    values: tuple[Any, ...]

    @classmethod
    def parse(cls, text: str, *, tagger: str) -> ScanParameter:
        """From KEY=1,2,5, KEY=log:LOW:HIGH:COUNT or KEY=lin:LOW:HIGH:COUNT; InputError says what is wrong."""
        key, equals, given = text.partition("=")
        # The key may also be given from the top of the config.
        key = key.strip().removeprefix(f"taggers.{tagger}.")
        if not equals or not given.strip() or not all(key.split(".")):
            raise InputError(f"--param {text!r}: write KEY=VALUES, such as terms.0.strength=1,2,5")
        try:
            values = (
                _parse_range(given)
                if ":" in given.partition(",")[0].partition("{")[0]
                else parse_value_list(given)
            )
        except InputError as err:
            raise InputError(f"--param {text!r}: {err}") from None
        told = [format_value(value) for value in values]
        if twice := [one for one in told if told.count(one) > 1]:
            raise InputError(f"--param {text!r}: {twice[0]} stands there twice")
        return cls(key, tuple(values))

    @property
    def short_name(self) -> str:
        """The last word of the key."""
        return self.key.split(".")[-1]


@dataclass(frozen=True)
class GridPoint:
    """One combination: a value for each key."""

    key_values: tuple[tuple[str, Any], ...]

    def overrides(self, tagger: str) -> tuple[str, ...]:
        """As `--set` takes them."""
        return tuple(f"taggers.{tagger}.{key}={format_value(value)}" for key, value in self.key_values)

    def label(self, names: dict[str, str]) -> str:
        """For people: 'strength = 5, epochs = 8'."""
        return ", ".join(f"{names[key]} = {format_value(value)}" for key, value in self.key_values)

    def slug(self, names: dict[str, str]) -> str:
        """For a folder; the digest keeps apart what looks alike."""
        words = "_".join(f"{names[key]}-{format_value(value)}" for key, value in self.key_values)
        whole = hashlib.sha256(repr(self.overrides("")).encode()).hexdigest()[:8]
        return f"{re.sub(r'[^A-Za-z0-9.+-]+', '_', words).strip('_')[:80]}.{whole}"


def build_grid(parameters: Sequence[ScanParameter]) -> list[GridPoint]:
    """All combinations, the last key changing fastest; InputError for a key that stands twice or too many."""
    keys = [over.key for over in parameters]
    if not keys:
        raise InputError("--param: give at least one, such as --param terms.0.strength=1,2,5")
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise InputError(f"--param {twice[0]}: stands there twice; write all its values in one")
    found = [
        GridPoint(tuple(zip(keys, chosen, strict=True)))
        for chosen in itertools.product(*(over.values for over in parameters))
    ]
    if len(found) > MAX_POINTS:
        raise InputError(f"--param: {len(found)} points, more than {MAX_POINTS}; take fewer values")
    return found


def short_names(parameters: Sequence[ScanParameter]) -> dict[str, str]:
    """A short name for each key: its last word, or the whole where that would be ambiguous."""
    short = [over.short_name for over in parameters]
    return {
        over.key: over.key if short.count(over.short_name) > 1 else over.short_name for over in parameters
    }


def parse_seeds(text: str) -> list[int]:
    """From '1,2,3' or '1:5'; InputError for what are not different whole numbers."""
    first, colon, last = text.partition(":")
    if colon and first.strip().isdigit() and last.strip().isdigit() and int(first) <= int(last):
        return list(range(int(first), int(last) + 1))
    try:
        # YAML 1.1 takes 5:2 for five minutes and two seconds.
        found = [] if colon else parse_value_list(text)
    except InputError:
        found = []
    if not found or not all(type(one) is int and one >= 0 for one in found) or len(set(found)) < len(found):
        raise InputError(f"--seeds {text!r}: write different whole numbers, such as 1,2,3 or 1:5")
    return found


def _parse_range(text: str) -> list[Any]:
    kind, *ends = (part.strip() for part in text.split(":"))
    if kind not in RANGE_KINDS:
        raise InputError(f"no range {kind!r}{suggest(kind, RANGE_KINDS)}; write log:LOW:HIGH:COUNT")
    try:
        low, high = float(ends[0]), float(ends[1])
        count = int(ends[2])
    except (ValueError, IndexError):
        raise InputError(f"write {kind}:LOW:HIGH:COUNT, such as {kind}:0.1:100:10") from None
    if len(ends) > 3 or count < 2 or not np.isfinite([low, high]).all() or low == high:
        raise InputError(f"write {kind}:LOW:HIGH:COUNT with two different ends and a COUNT of at least 2")
    if kind == "log" and min(low, high) <= 0:
        raise InputError("a logarithmic range needs both ends above zero; use lin, or list the values")
    steps = np.geomspace(low, high, count) if kind == "log" else np.linspace(low, high, count)
    values = [float(f"{value:.6g}") for value in steps]
    # Whole ends without a point ask for whole numbers, such as latents, where all steps are whole.
    whole = all(re.fullmatch(r"-?\d+", end) for end in ends[:2]) and all(v.is_integer() for v in values)
    return [int(value) for value in values] if whole else values


@dataclass(frozen=True)
class ScanTraining:
    """One point with one seed, as far as it has been trained."""

    point: GridPoint
    name: str  # POINT-SEED
    job: train_jobs.TrainJob
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
        parameters: Sequence[ScanParameter],
        seeds: Sequence[int],
        name: str = "",
        console: Console,
        print_status: Callable[[str, str], None],
    ) -> None:
        self.config, self.tagger, self.console, self.print_status = config, tagger, console, print_status
        self.short_names, self.points, self.seeds = (
            short_names(parameters),
            build_grid(parameters),
            list(seeds),
        )
        self.name = name or "_".join([tagger, *self.short_names.values()])
        if any(letter in self.name for letter in "/\\"):
            raise InputError(f"--name {self.name}: it names a folder below {self.config.output_folder}/scans")
        self.folder = self.config.output_folder / "scans" / self.name
        self.configs = {point: self._load_config(point) for point in self.points}

    def run(self, table: Table, *, redo: bool = False) -> Path:
        """Train what is missing, measure it, and write the page; the path of scan.html."""
        trained = [self._make_training(point, seed, table) for point in self.points for seed in self.seeds]
        missing = [one.job for one in trained if redo or not one.job.is_finished()]
        if done := len(trained) - len(missing):
            self.print_status(
                "scan", f"finished already: {done} of {len(trained)} trainings in {self.folder}"
            )
        failed = {}
        if missing:
            failed = train_jobs.run_jobs(
                missing,
                self.config,
                console=self.console,
                print_status=self.print_status,
                redo=redo,
                continue_on_error=True,
            )
        for key, reason in failed.items():
            label = next(one.name for one in trained if one.job.key == key)
            self.print_status("scan", f"  {label} failed: {reason}")
        found = [one for one in trained if one.job.key not in failed]
        if not found:
            raise InputError(f"{self.folder}: no point could be trained; {next(iter(failed.values()))}")
        page = self._write_page(found, failed, trained, table)
        self.print_status("scan", f"{len(found)} of {len(trained)} trainings complete; {page}")
        return page

    def _load_config(self, point: GridPoint) -> Config:
        overrides = [*self.config.overrides, *point.overrides(self.tagger)]
        told = ", ".join(point.overrides("")).replace("taggers..", "")
        with progress.prefix_errors(f"--param {told}"):
            config = load_config(self.config.path, overrides=overrides)
            config_checks.check_taggers(config, [self.tagger])
        return config

    def _make_training(self, point: GridPoint, seed: int, table: Table) -> ScanTraining:
        config = self.configs[point]
        job = train_jobs.TrainJob.create(config, table, tagger=self.tagger, seed=seed)
        slug = f"{point.slug(self.short_names)}-{seed}"
        if not job.is_finished():  # else the analysis has trained this very point
            job = replace(
                job,
                model_folder=self.folder / "models" / slug,
                work_folder=self.folder / "training" / slug,
                title=point.label(self.short_names),
            )
        return ScanTraining(point, slug, job, config)

    def _reference_trainings(self, table: Table) -> list[ScanTraining]:
        """The analysis' own taggers, as far as they are trained, to draw beside the scan."""
        found = []
        for tagger in self.config.taggers:
            for seed in self.seeds:
                job = train_jobs.TrainJob.create(self.config, table, tagger=tagger, seed=seed)
                if job.is_finished():
                    found.append(ScanTraining(GridPoint(()), f"own {tagger}-{seed}", job, self.config))
        return found

    def _write_page(
        self,
        completed: Sequence[ScanTraining],
        failures: dict[str, str],
        trainings: Sequence[ScanTraining],
        table: Table,
    ) -> Path:
        from hepdecorr.evaluation.report import scan

        key = digest(
            [one.job.key for one in trainings],
            sorted(failures),
            self.config.digest("report"),
            source_digest("report"),
        )
        stamp = CacheStamp(self.folder / "stamp.json", key)
        page = self.folder / "scan.html"
        if not failures and stamp.is_valid(page, self.folder / "points.json"):
            return page
        stamp.invalidate(page, self.folder / "points.json")
        others = self._reference_trainings(table)
        cards, evaluations = evaluate_trainings(
            self.config, [*completed, *others], table, console=self.console
        )
        content = scan.ScanReport(
            name=self.name,
            title=self.config.title or self.config.name,
            tagger=self.tagger,
            keys=tuple(self.short_names),
            titles=self.short_names,
            points=[
                self._make_point_result(point, completed, cards, evaluations, failures, trainings)
                for point in self.points
            ],
            reference_evaluations={
                tagger: [e for one in others if one.job.tagger == tagger for e in evaluations[one.name]]
                for tagger in dict.fromkeys(one.job.tagger for one in others)
            },
            histories={
                one.point.label(self.short_names): _load_history(one.job.history_file)
                for one in completed
                if one.job.seed == self.seeds[0]
            },
            command=command_line(),
            config_text=self.config.text + "".join(f"\n# --set {o}" for o in self.config.overrides),
            versions=library_versions(),
            table_fingerprint=table.fingerprint,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        with self.console.status("drawing the scan"):
            scan.write_scan_report(self.folder, content)
        stamp.write(complete=not failures, trainings=len(completed), of=len(trainings))
        return page

    def _make_point_result(
        self,
        point: GridPoint,
        completed: Sequence[ScanTraining],
        cards: dict[str, ModelCard],
        evaluations: dict[str, list[Evaluation]],
        failures: dict[str, str],
        trainings: Sequence[ScanTraining],
    ) -> Any:
        from hepdecorr.evaluation.report.scan import PointResult

        own = [one for one in completed if one.point == point]
        return PointResult(
            label=point.label(self.short_names),
            values=dict(point.key_values),
            evaluations=[measured for one in own for measured in evaluations[one.name]],
            cards=[json.loads(cards[one.name].to_json()) for one in own],
            folders=[os.path.relpath(one.job.model_folder, self.config.output_folder) for one in own],
            latents=[shown for one in own if (shown := load_latents(one.job.model_folder, cards[one.name]))],
            failures=[
                failures[one.job.key] for one in trainings if one.point == point and one.job.key in failures
            ],
        )


def evaluate_trainings(
    config: Config, trainings: Sequence[ScanTraining], table: Table, *, console: Any
) -> tuple[dict[str, ModelCard], dict[str, list[Evaluation]]]:
    """Cards, and evaluations on the test events of the table, one per nuisance, by POINT-SEED."""
    from hepdecorr.columnar.tagger import OnnxTagger

    taggers = {one.name: OnnxTagger(one.job.model_folder, base=config.base) for one in trainings}
    events = score_test_events(config, taggers, table, console=console)
    cards = {name: tagger.card for name, tagger in taggers.items()}
    return cards, evaluate_metrics.evaluate_models(config, events, cards, console=console)


def score_test_events(config: Config, taggers: dict[str, Any], table: Table, *, console: Any) -> Arrays:
    """The test events of the table: nuisances, label, weight, numbers, groups, and the taggers' logits."""
    from hepdecorr.columnar.table_scoring import compute_table_logits

    select = Selection("test", config.table_split)
    names = [*config.nuisances, "label", "weight", *EVENT_IDS, *table.column_names("group")]
    events = table.read(list(dict.fromkeys(names)), select=select)
    if not len(events["label"]):
        raise InputError(f"{table.folder}: no test events in it; give test folds, or datasets to test with")
    with progress.progress_bars(console) as bars:
        task = bars.add_task("score", total=len(taggers), note="")
        for name, tagger in taggers.items():
            events[name] = compute_table_logits(tagger, table, select=select)
            bars.advance(task)
    return events


def _load_history(path: Path) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    return found
