"""Codes of groups against the true conditions of these, of all events and of some of them.

What the groups of a table are like: how many, how large, and what of them a training will find odd.

Taggers between groups, measured on the score table.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from hepdecorr.config.schema import Config
from hepdecorr.errors import InputError
from hepdecorr.evaluation.groups import (
    CodeRegression,
    GroupCodeSample,
    GroupedEvents,
    GroupStability,
    StabilityRatios,
    fit_code_regression,
    group_stability,
    stability_ratios,
)
from hepdecorr.evaluation.groups.code_regression import PredictedCondition, predict_condition
from hepdecorr.evaluation.groups.events import values_per_group
from hepdecorr.evaluation.metrics import ProtectedVariable
from hepdecorr.evaluation.report.content import GroupReport, atomic_write
from hepdecorr.table import Arrays, Selection, Split, SplitPart, Table
from hepdecorr.workflow import evaluate_metrics, group_codes, progress
from hepdecorr.workflow.extra_scores import strip_seed

GROUP_COLUMN = "group"  # the column of a table that says which group a row is of
MIN_FIT_GROUPS = 50  # validation groups that are enough to fit a map on; with fewer those of training join
THINNING_STRIDES = (16, 8, 4, 2, 1)  # of the events of a test group each so many
MIN_MEAN_EVENTS = 4  # events of a thinned group, on average


class GroupCodeArrays(NamedTuple):
    """Codes of some groups, ids ascending."""

    ids: Any  # (g,)
    counts: Any
    mean: Any  # (g, d)
    log_var: Any


@dataclass
class CodeRegressionResults:
    """By tagger and condition: for each seed, and of the first seed for the figures."""

    regressions: dict[str, dict[str, list[CodeRegression]]] = field(default_factory=dict)
    predictions: dict[str, dict[str, PredictedCondition]] = field(default_factory=dict)
    thinned_regressions: dict[str, dict[str, list[CodeRegression]]] = field(
        default_factory=dict
    )  # fewest events first
    notes: list[str] = field(default_factory=list)


def load_test_codes(config: Config, models: Mapping[str, Path]) -> dict[str, GroupCodeArrays]:
    """Codes of the test groups as the evaluation left them, of those taggers that have some."""
    from hepdecorr.columnar.group_codes import GroupCodes

    found = {}
    told = group_codes.open_conditioned_taggers(models, base=config.base)
    for name, path in group_codes.group_code_paths(told, folder=config.output_folder / "evaluation").items():
        if path.is_file():
            one = GroupCodes.open(path)
            one.check_tagger(told[name].sha256)
            found[name] = GroupCodeArrays(one.ids, one.counts, one.mean, one.log_var)
    return found


def regress_conditions(
    config: Config,
    models: Mapping[str, Path],
    test_codes: Mapping[str, GroupCodeArrays],
    grouped: GroupedEvents,
) -> CodeRegressionResults:
    """Codes of the test groups against the truth, under a map that is fitted on groups of the table."""
    found = CodeRegressionResults()
    conditions = [name for name in grouped.conditions if name in config.nuisances]
    for name, told in test_codes.items() if conditions else ():
        tagger, first = strip_seed(name), strip_seed(name) not in found.regressions
        try:
            fit = _compute_fit_codes(config, models[name], conditions)
            for condition in conditions:
                own = np.isin(told.ids, grouped.group_ids)
                truth = grouped.conditions[condition][np.searchsorted(grouped.group_ids, told.ids[own])]
                of_group = GroupCodeSample.from_posterior(
                    told.mean[own], told.log_var[own], truth, told.counts[own]
                )
                one = fit_code_regression(fit[condition], of_group)
                found.regressions.setdefault(tagger, {}).setdefault(condition, []).append(one)
                found.predictions.setdefault(tagger, {}).setdefault(
                    condition, predict_condition(fit[condition], of_group)
                )
            if first:
                found.thinned_regressions[tagger] = _regress_thinned(config, models[name], conditions)
        except InputError as err:
            found.notes.append(f"{name}: codes could not be set against the true conditions: {err}")
    return found


def _compute_fit_codes(
    config: Config, model: Path, conditions: Sequence[str], *, stride: int = 1
) -> dict[str, GroupCodeSample]:
    """By condition, codes of validation groups; where these are few, of those of training as well."""
    parts: list[tuple[SplitPart, ...]] = [("validation",), ("validation", "train")]
    for some in parts:
        found = _compute_table_codes(config, model, conditions, parts=some, stride=stride)
        if found and all(len(one.truth) >= MIN_FIT_GROUPS for one in found.values()):
            break
    if not found:
        raise InputError("the training table has no groups to fit a map on")
    return found


def _regress_thinned(
    config: Config, model: Path, conditions: Sequence[str]
) -> dict[str, list[CodeRegression]]:
    """By condition, codes of fewer and fewer events of the test groups, each with a map of such codes."""
    found: dict[str, list[CodeRegression]] = {}
    logger = logging.getLogger("hepdecorr.columnar.group_codes")
    before = logger.level
    # It warns that codes of groups of other sizes than in training were never tried: here they are.
    logger.setLevel(logging.ERROR)
    try:
        for every in THINNING_STRIDES:
            fit = _compute_fit_codes(config, model, conditions, stride=every)
            test = _compute_table_codes(config, model, conditions, parts=("test",), stride=every)
            for condition, of_group in test.items():
                if of_group.counts.mean() >= MIN_MEAN_EVENTS:
                    found.setdefault(condition, []).append(fit_code_regression(fit[condition], of_group))
    finally:
        logger.setLevel(before)
    return found


def _compute_table_codes(
    config: Config, model: Path, conditions: Sequence[str], *, parts: Sequence[SplitPart], stride: int = 1
) -> dict[str, GroupCodeSample]:
    """By condition, codes and truths of the table's groups of some parts, of each so many of their events.

    One shard at a time; nothing where the table has no such events, as of files that are for tests alone.
    """
    from hepdecorr.columnar.tagger import OnnxTagger

    tagger, table = OnnxTagger(model, base=config.base), Table.open(config.output_folder / "table")
    columns = list(dict.fromkeys([*tagger.feature_names, *conditions, GROUP_COLUMN]))
    sums, seen = [], []
    for part in parts:
        for arrays in table.iter_shards(columns, select=Selection(part, config.table_split)):
            some = {name: values[::stride] for name, values in arrays.items()}
            if len(some[GROUP_COLUMN]):
                sums.append(tagger.sum_member_rows(tagger.feature_matrix(some), some[GROUP_COLUMN]))
                seen.append({name: some[name] for name in [*conditions, GROUP_COLUMN]})
    if not sums:
        return {}
    total = sums[0]
    for one in sums[1:]:
        total = total + one
    told = tagger.pool_sums(total)
    return {name: _pair_with_truth(told, seen, name) for name in conditions}


def _pair_with_truth(group_codes: Any, columns: Sequence[Arrays], condition: str) -> GroupCodeSample:
    group, values = (np.concatenate([one[name] for one in columns]) for name in (GROUP_COLUMN, condition))
    truth = values_per_group(values, np.searchsorted(group_codes.ids, group), group_codes.ids, name=condition)
    return GroupCodeSample.from_posterior(group_codes.mean, group_codes.log_var, truth, group_codes.counts)


IntArray = NDArray[np.int64]
SPLIT_PARTS = ("train", "validation", "test")
_PART_VERBS = ("train", "validate", "test")


@dataclass(frozen=True)
class GroupSummary:
    """Groups of a table.

    named: what names them.  ids: (g,).  labels: rows of background and of signal, (g, 2).  parts: rows to
    train, to validate and to test with, (g, 3).
    """

    group_label: str
    ids: IntArray
    class_counts: IntArray
    part_counts: IntArray
    has_folds: tuple[bool, bool, bool] = (True, True, True)  # whether the split has folds for a part

    @classmethod
    def from_table(cls, table: Table, *, split: Split) -> Self:
        """Of all rows of a table with a column of role `group`, read one shard at a time."""
        (name,) = table.column_names("group")
        ids, counts = [np.empty(0, np.int64)], [np.empty((0, 5), np.int64)]
        for shard, rows in zip(table.shards, table.iter_shards([name, "label", "fold"]), strict=True):
            found, number = np.unique(rows[name].astype(np.int64), return_inverse=True)
            use = str(table.datasets[shard.dataset].get("use", "all"))
            part = split.assign_parts(rows["fold"], use=use)
            kinds = [rows["label"] == label for label in (0, 1)] + [part == one for one in SPLIT_PARTS]
            ids.append(found)
            counts.append(np.stack([np.bincount(number[k], minlength=len(found)) for k in kinds], 1))
        every, number = np.unique(np.concatenate(ids), return_inverse=True)
        total = np.zeros((len(every), 5), np.int64)
        np.add.at(total, number, np.concatenate(counts))
        asked = (True, bool(split.validation), bool(split.test))
        return cls(table.column(name).title or name, every, total[:, :2], total[:, 2:], asked)

    @property
    def sizes(self) -> IntArray:
        """Rows of each group, (g,)."""
        found: IntArray = self.class_counts.sum(1)
        return found

    def describe(self, *, row_name: str = "events", num_emptied: int = 0) -> Iterator[str]:
        """A sentence on the groups, then one on each oddity; lost: how many groups the cuts have emptied."""
        sizes = self.sizes
        spread = f"{sizes.min():,} to {sizes.max():,} {row_name} (median {np.median(sizes):,.10g})"
        said = [f"{len(sizes):,} groups of {self.group_label}, of {spread}"]
        if single := int((sizes == 1).sum()):
            said.append(f"{single:,} of a single one")
        if self.class_counts.any(0).all():
            alone = [int((self.class_counts[:, 1 - k] == 0).sum()) for k in (0, 1)]
            said += [
                f"{count:,} of {name} alone"
                for count, name in zip(alone, ("background", "signal"), strict=True)
                if count
            ]
        if num_emptied:
            said.append(f"{num_emptied:,} more lose all {row_name} to the selection and are no groups")
        there = (self.part_counts > 0).sum(0)
        yield "; ".join([*said, ", ".join(f"{there[k]:,} to {one}" for k, one in enumerate(_PART_VERBS))])
        for k, one in enumerate(_PART_VERBS):
            if not there[k] and self.has_folds[k]:
                yield (
                    f"no group is left to {one} with: whole groups share a fold, and {len(sizes):,} are few "
                    "for the folds of 'split'; give this part more of them, or name smaller groups"
                )
        if both := int(((self.part_counts > 0).sum(1) > 1).sum()):
            yield (
                f"{both:,} groups stand in several of the parts, as their datasets are of use 'train' and "
                "'test': what is learnt from a group is tested on the same one; write 'use: all', so that "
                "folds part them, or tell them apart by a second name under 'groups: of'"
            )


def measure_between_groups(
    config: Config,
    events: Mapping[str, Any],
    models: Mapping[str, Path],
    extra_scores: Iterable[str] = (),
    *,
    scores: Table,
    console: Console,
) -> GroupReport | None:
    """All that the report says of groups; None where the config names none.

    events: scores by the names of `models` (TAGGER-SEED -> folder) and of `others`, nuisances, label, weight
    and 'group'. What was measured before, with the same arrays, settings and code, is read from
    OUTPUT/metrics_cache.
    """
    if config.groups is None or GROUP_COLUMN not in events:
        return None
    test = load_test_codes(config, models)
    conditions, notes = _find_conditions(config, events)
    if not conditions:
        conditions = _condition_from_codes(events, test)
    grouped = GroupedEvents.from_arrays(
        events["label"],
        events[GROUP_COLUMN],
        evaluate_metrics.event_weights(events),
        protected={
            name: ProtectedVariable(events[name], (spec.low, spec.high), spec.bins)
            for name, spec in config.protected_nuisances.items()
        },
        conditions=conditions,
    )
    names = [*models, *extra_scores]
    measured: dict[str, list[GroupStability]] = {}
    if grouped.num_groups < 2:
        notes.append(
            f"The test events are of one {_group_label(config)}: nothing can be said between groups."
        )
    else:
        measured = _measure_stability(config, events, names, grouped, console=console)
    reference = _find_reference(config, measured, test)
    told = regress_conditions(config, models, test, grouped)
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(strip_seed(name), name)
    titles = {c.name: (c.title or c.name, c.unit) for c in scores.columns if c.role == "nuisance"}
    return GroupReport(
        group_label=_group_label(config),
        events=grouped,
        stability=measured,
        logits={tagger: np.asarray(events[name], dtype=np.float64) for tagger, name in first.items()},
        reference=reference,
        ratios=_compare_to_reference(events, names, measured, grouped, reference=reference),
        regressions=told.regressions,
        predictions=told.predictions,
        thinned_regressions=told.thinned_regressions,
        titles=titles,
        rejection=config.report.groups.rejection,
        requested_taggers=config.report.groups.taggers,
        notes=[*notes, *told.notes],
    )


def _group_label(config: Config) -> str:
    """What names a group, in words."""
    return "event" if config.groups and config.groups.by == "event" else ", ".join(config.group_by)


def _measure_stability(
    config: Config,
    events: Mapping[str, Any],
    names: Sequence[str],
    grouped: GroupedEvents,
    *,
    console: Console,
) -> dict[str, list[GroupStability]]:
    found: dict[str, list[GroupStability]] = {}
    settings: dict[str, Any] = {"rejections": list(config.working_points)}
    spectra = [(name, list(one.range), one.bins) for name, one in grouped.protected.items()]
    about = (grouped.label, grouped.group_index, grouped.weight, *grouped.conditions.values())
    about += tuple(np.asarray(one.values) for one in grouped.protected.values())
    with progress.progress_bars(console) as bars:
        task = bars.add_task("measure between groups", total=len(names), note="")
        for name in names:
            told = settings | {"spectra": spectra, "conditions": list(grouped.conditions)}
            key = evaluate_metrics.cache_key((events[name], *about), told, None)
            path = config.output_folder / "metrics_cache" / f"{key}.json"
            if (one := evaluate_metrics.load_cached(GroupStability, path)) is None:
                with progress.prefix_errors(f"{config.location_of('groups')}: {name}"):
                    one = group_stability(events[name], grouped, **settings)
                atomic_write(path, one.to_json().encode())
            found.setdefault(strip_seed(name), []).append(one)
            bars.advance(task)
    return found


def _find_reference(
    config: Config, stability: Mapping[str, Any], test_codes: Mapping[str, GroupCodeArrays]
) -> str:
    """The tagger that is asked for, or else the first that is told nothing of groups."""
    if config.report.groups.reference in stability:
        return config.report.groups.reference
    told = {strip_seed(name) for name in test_codes}
    return next((name for name in stability if name not in told), "")


def _compare_to_reference(
    events: Mapping[str, Any],
    names: Sequence[str],
    stability: Mapping[str, Sequence[GroupStability]],
    grouped: GroupedEvents,
    *,
    reference: str,
) -> dict[str, list[tuple[StabilityRatios, ...]]]:
    """Of every other tagger, each seed against the reference's of the same place, or its first."""
    columns: dict[str, list[str]] = {}
    for name in names:
        columns.setdefault(strip_seed(name), []).append(name)
    if reference not in stability:
        return {}
    leaders = list(zip(columns[reference], stability[reference], strict=True))
    found: dict[str, list[tuple[StabilityRatios, ...]]] = {}
    for tagger, seeds in stability.items():
        if tagger == reference:
            continue
        for place, (name, one) in enumerate(zip(columns[tagger], seeds, strict=True)):
            leader, first = leaders[place if place < len(leaders) else 0]
            ratio = stability_ratios((events[leader], first), (events[name], one), grouped)
            found.setdefault(tagger, []).append(ratio)
    return found


def _find_conditions(config: Config, events: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """True conditions, (events,) each, and what is wrong with others.

    They are those of groups.truth.group; without any, the nuisances that are not protected and the same in
    all events of a group.
    """
    assert config.groups is not None
    asked = config.groups.truth.group
    names, place = np.unique(events[GROUP_COLUMN], return_inverse=True)
    found, notes = {}, []
    for name in asked or [name for name, spec in config.nuisances.items() if not spec.protected]:
        try:
            every = values_per_group(events[name], place, names, name=name)
        except InputError as err:
            notes += [str(err)] if asked else []
            continue
        if np.ptp(every) > 0:
            found[name] = events[name]
        elif asked:
            notes.append(f"{name} is {every[0]:g} in all groups of the test: nothing depends on it.")
    return found, notes


def _condition_from_codes(
    events: Mapping[str, Any], test_codes: Mapping[str, GroupCodeArrays]
) -> dict[str, Any]:
    """Without true conditions: the number of the first tagger's code that differs most between groups."""
    for name, told in test_codes.items():
        number = int(np.argmax(np.var(told.mean, axis=0)))
        at = np.searchsorted(told.ids, events[GROUP_COLUMN]).clip(0, len(told.ids) - 1)
        if np.array_equal(told.ids[at], events[GROUP_COLUMN]) and np.ptp(told.mean[:, number]) > 0:
            return {f"code {number} of {strip_seed(name)}": told.mean[at, number]}
    return {}
