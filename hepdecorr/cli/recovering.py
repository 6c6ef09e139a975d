"""Codes of groups against the true conditions of these, of all events and of some of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hepdecorr.cli import codes
from hepdecorr.cli.further import tagger_of
from hepdecorr.config import Config
from hepdecorr.errors import InputError
from hepdecorr.table import Arrays, Part, Selection, Table
from hepdecorr.validation.measures import Codes, Grouped, Recovered, recovered
from hepdecorr.validation.measures.grouped import of_groups
from hepdecorr.validation.measures.recovered import Mapped, under

GROUP = "group"  # the column of a table that says which group a row is of
ENOUGH = 50  # validation groups that are enough to fit a map on; with fewer those of training join
THINNED = (16, 8, 4, 2, 1)  # of the events of a test group each so many
FEWEST = 4  # events of a thinned group, on average


class Told(NamedTuple):
    """Codes of some groups, ids ascending."""

    ids: Any  # (g,)
    counts: Any
    mean: Any  # (g, d)
    log_var: Any


@dataclass
class Recovery:
    """By tagger and condition: for each seed, and of the first seed for the figures."""

    recovered: dict[str, dict[str, list[Recovered]]] = field(default_factory=dict)
    mapped: dict[str, dict[str, Mapped]] = field(default_factory=dict)
    thinned: dict[str, dict[str, list[Recovered]]] = field(default_factory=dict)  # fewest events first
    notes: list[str] = field(default_factory=list)


def of_test(config: Config, models: Mapping[str, Path]) -> dict[str, Told]:
    """Codes of the test groups as the evaluation left them, of those taggers that have some."""
    from hepdecorr.columnar.groups import GroupCodes

    found = {}
    told = codes.told(models, base=config.base)
    for name, path in codes.files(told, folder=config.output_folder / "evaluation").items():
        if path.is_file():
            one = GroupCodes.open(path)
            one.check(told[name].sha256)
            found[name] = Told(one.ids, one.counts, one.mean, one.log_var)
    return found


def recovery(
    config: Config, models: Mapping[str, Path], test: Mapping[str, Told], grouped: Grouped
) -> Recovery:
    """Codes of the test groups against the truth, under a map that is fitted on groups of the table."""
    found = Recovery()
    conditions = [name for name in grouped.conditions if name in config.nuisances]
    for name, told in test.items() if conditions else ():
        tagger, first = tagger_of(name), tagger_of(name) not in found.recovered
        try:
            fit = _to_fit(config, models[name], conditions)
            for condition in conditions:
                own = np.isin(told.ids, grouped.names)
                truth = grouped.conditions[condition][np.searchsorted(grouped.names, told.ids[own])]
                of_group = Codes.of(told.mean[own], told.log_var[own], truth, told.counts[own])
                one = recovered(fit[condition], of_group)
                found.recovered.setdefault(tagger, {}).setdefault(condition, []).append(one)
                found.mapped.setdefault(tagger, {}).setdefault(condition, under(fit[condition], of_group))
            if first:
                found.thinned[tagger] = _thinned(config, models[name], conditions)
        except InputError as err:
            found.notes.append(f"{name}: codes could not be set against the true conditions: {err}")
    return found


def _to_fit(config: Config, model: Path, conditions: Sequence[str], *, every: int = 1) -> dict[str, Codes]:
    """By condition, codes of validation groups; where these are few, of those of training as well."""
    parts: list[tuple[Part, ...]] = [("validation",), ("validation", "train")]
    for some in parts:
        found = _of_table(config, model, conditions, parts=some, every=every)
        if found and all(len(one.truth) >= ENOUGH for one in found.values()):
            break
    if not found:
        raise InputError("the training table has no groups to fit a map on")
    return found


def _thinned(config: Config, model: Path, conditions: Sequence[str]) -> dict[str, list[Recovered]]:
    """By condition, codes of fewer and fewer events of the test groups, each with a map of such codes."""
    found: dict[str, list[Recovered]] = {}
    logger = logging.getLogger("hepdecorr.columnar.groups")
    before = logger.level
    # It warns that codes of groups of other sizes than in training were never tried: here they are.
    logger.setLevel(logging.ERROR)
    try:
        for every in THINNED:
            fit = _to_fit(config, model, conditions, every=every)
            test = _of_table(config, model, conditions, parts=("test",), every=every)
            for condition, of_group in test.items():
                if of_group.counts.mean() >= FEWEST:
                    found.setdefault(condition, []).append(recovered(fit[condition], of_group))
    finally:
        logger.setLevel(before)
    return found


def _of_table(
    config: Config, model: Path, conditions: Sequence[str], *, parts: Sequence[Part], every: int = 1
) -> dict[str, Codes]:
    """By condition, codes and truths of the table's groups of some parts, of each so many of their events.

    One shard at a time; nothing where the table has no such events, as of files that are for tests alone.
    """
    from hepdecorr.columnar.tagger import OnnxTagger

    tagger, table = OnnxTagger(model, base=config.base), Table.open(config.output_folder / "table")
    columns = list(dict.fromkeys([*tagger.feature_names, *conditions, GROUP]))
    sums, seen = [], []
    for part in parts:
        for arrays in table.iterate(columns, select=Selection(part, config.table_split)):
            some = {name: values[::every] for name, values in arrays.items()}
            if len(some[GROUP]):
                sums.append(tagger.summed_rows(tagger.stack(some), some[GROUP]))
                seen.append({name: some[name] for name in [*conditions, GROUP]})
    if not sums:
        return {}
    total = sums[0]
    for one in sums[1:]:
        total = total + one
    told = tagger.pool(total)
    return {name: _with_truth(told, seen, name) for name in conditions}


def _with_truth(told: Any, seen: Sequence[Arrays], condition: str) -> Codes:
    group, values = (np.concatenate([one[name] for one in seen]) for name in (GROUP, condition))
    truth = of_groups(values, np.searchsorted(told.ids, group), told.ids, name=condition)
    return Codes.of(told.mean, told.log_var, truth, told.counts)
