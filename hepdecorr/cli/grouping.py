"""Taggers between groups: measured on the score table, and codes against the true conditions of groups."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from hepdecorr.cli import measuring, show
from hepdecorr.cli.further import tagger_of
from hepdecorr.config import Config
from hepdecorr.errors import InputError
from hepdecorr.sums import GroupSums
from hepdecorr.table import Arrays, Part, Selection, Table
from hepdecorr.validation.content import write
from hepdecorr.validation.group_content import BetweenGroups
from hepdecorr.validation.measures import (
    ByGroup,
    Codes,
    Grouped,
    Protected,
    Recovered,
    Steadier,
    by_group,
    recovered,
    steadier,
)
from hepdecorr.validation.measures.grouped import of_groups
from hepdecorr.validation.measures.recovered import Mapped, under

GROUP = "group"  # the column of a table that says which group a row is of
CODES = "groups"  # the folder of the evaluation with the codes of each tagger
BATCH = 16_384  # rows that go through a graph at once
ENOUGH = 50  # validation groups that are enough to fit a map on; with fewer those of training join


class Told(NamedTuple):
    """Codes of some groups, ascending ids."""

    ids: Any  # (g,)
    counts: Any
    mean: Any  # (g, d)
    log_var: Any


def between(
    config: Config,
    events: Mapping[str, Any],
    models: Mapping[str, Path],
    others: Iterable[str] = (),
    *,
    scores: Table,
    console: Console,
) -> BetweenGroups | None:
    """All that the report says of groups; None where the config names none.

    events: scores by the names of `models` (TAGGER-SEED -> folder) and of `others`, nuisances, label, weight
    and 'group'. What was measured before, with the same arrays, settings and code, is read from
    OUTPUT/measured.
    """
    if config.groups is None or GROUP not in events:
        return None
    test = {name: found for name in models if (found := _of_test(config, name)) is not None}
    conditions, notes = _conditions(config, events)
    if not conditions:
        conditions = _of_codes(events, test)
    grouped = Grouped.of(
        events["label"],
        events[GROUP],
        measuring.weights(events),
        protected={
            name: Protected(events[name], (spec.low, spec.high), spec.bins)
            for name, spec in config.protected.items()
        },
        conditions=conditions,
    )
    names = [*models, *others]
    measured: dict[str, list[ByGroup]] = {}
    if grouped.groups < 2:
        notes.append(f"The test events are of one {_named(config)}: nothing can be said between groups.")
    else:
        measured = _measured(config, events, names, grouped, console=console)
    reference = _reference(config, measured, test)
    recovery, mapped = _recovered(config, models, test, grouped, notes)
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(tagger_of(name), name)
    titles = {c.name: (c.title or c.name, c.unit) for c in scores.columns if c.role == "nuisance"}
    return BetweenGroups(
        named=_named(config),
        events=grouped,
        measured=measured,
        logits={tagger: np.asarray(events[name], dtype=np.float64) for tagger, name in first.items()},
        reference=reference,
        ratios=_ratios(events, names, measured, grouped, reference=reference),
        recovered=recovery,
        mapped=mapped,
        titles=titles,
        shown=config.report.groups.taggers,
        notes=notes,
    )


def _named(config: Config) -> str:
    """What names a group, in words."""
    return "event" if config.groups and config.groups.of == "event" else ", ".join(config.grouped_by)


def _measured(
    config: Config, events: Mapping[str, Any], names: Sequence[str], grouped: Grouped, *, console: Console
) -> dict[str, list[ByGroup]]:
    found: dict[str, list[ByGroup]] = {}
    settings: dict[str, Any] = {"rejections": list(config.working_points)}
    spectra = [(name, list(one.range), one.bins) for name, one in grouped.protected.items()]
    about = (grouped.label, grouped.place, grouped.weight, *grouped.conditions.values())
    about += tuple(np.asarray(one.values) for one in grouped.protected.values())
    with show.progress(console) as bars:
        task = bars.add_task("measure between groups", total=len(names), note="")
        for name in names:
            told = settings | {"spectra": spectra, "conditions": list(grouped.conditions)}
            key = measuring.key((events[name], *about), told, None)
            path = config.output_folder / "measured" / f"{key}.json"
            if (one := measuring.kept(ByGroup, path)) is None:
                with show.blamed(f"{config.at('groups')}: {name}"):
                    one = by_group(events[name], grouped, **settings)
                write(path, one.to_json().encode())
            found.setdefault(tagger_of(name), []).append(one)
            bars.advance(task)
    return found


def _reference(config: Config, measured: Mapping[str, Any], test: Mapping[str, Told]) -> str:
    """The tagger that is asked for, or else the first that is told nothing of groups."""
    if config.report.groups.reference in measured:
        return config.report.groups.reference
    told = {tagger_of(name) for name in test}
    return next((name for name in measured if name not in told), "")


def _ratios(
    events: Mapping[str, Any],
    names: Sequence[str],
    measured: Mapping[str, Sequence[ByGroup]],
    grouped: Grouped,
    *,
    reference: str,
) -> dict[str, list[tuple[Steadier, ...]]]:
    """Of every other tagger, each seed against the reference's of the same place, or its first."""
    columns: dict[str, list[str]] = {}
    for name in names:
        columns.setdefault(tagger_of(name), []).append(name)
    if reference not in measured:
        return {}
    leaders = list(zip(columns[reference], measured[reference], strict=True))
    found: dict[str, list[tuple[Steadier, ...]]] = {}
    for tagger, seeds in measured.items():
        if tagger == reference:
            continue
        for place, (name, one) in enumerate(zip(columns[tagger], seeds, strict=True)):
            leader, first = leaders[place if place < len(leaders) else 0]
            ratio = steadier((events[leader], first), (events[name], one), grouped)
            found.setdefault(tagger, []).append(ratio)
    return found


def _conditions(config: Config, events: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """True conditions, (events,) each, and what is wrong with others.

    They are those of groups.truth.group; without any, the nuisances that are not protected and the same in
    all events of a group.
    """
    assert config.groups is not None
    asked = config.groups.truth.group
    names, place = np.unique(events[GROUP], return_inverse=True)
    found, notes = {}, []
    for name in asked or [name for name, spec in config.nuisances.items() if not spec.protected]:
        try:
            every = of_groups(events[name], place, names, name=name)
        except InputError as err:
            notes += [str(err)] if asked else []
            continue
        if np.ptp(every) > 0:
            found[name] = events[name]
        elif asked:
            notes.append(f"{name} is {every[0]:g} in all groups of the test: nothing depends on it.")
    return found, notes


def _of_codes(events: Mapping[str, Any], test: Mapping[str, Told]) -> dict[str, Any]:
    """Without true conditions: the number of the first tagger's code that differs most between groups."""
    for name, told in test.items():
        number = int(np.argmax(np.var(told.mean, axis=0)))
        at = np.searchsorted(told.ids, events[GROUP]).clip(0, len(told.ids) - 1)
        if np.array_equal(told.ids[at], events[GROUP]) and np.ptp(told.mean[:, number]) > 0:
            return {f"code {number} of {tagger_of(name)}": told.mean[at, number]}
    return {}


def _of_test(config: Config, name: str) -> Told | None:
    """Codes of the test groups as the evaluation left them; None for a tagger without a context."""
    from hepdecorr.columnar.groups import GroupCodes

    path = config.output_folder / "evaluation" / CODES / f"{name}.parquet"
    if not path.is_file():
        return None
    codes = GroupCodes.open(path)
    return Told(codes.ids, codes.counts, codes.mean, codes.log_var)


def _recovered(
    config: Config,
    models: Mapping[str, Path],
    test: Mapping[str, Told],
    grouped: Grouped,
    notes: list[str],
) -> tuple[dict[str, dict[str, list[Recovered]]], dict[str, dict[str, Mapped]]]:
    """By tagger and condition: codes of test groups against the truth, mapped on groups of the table."""
    found: dict[str, dict[str, list[Recovered]]] = {}
    mapped: dict[str, dict[str, Mapped]] = {}
    conditions = [name for name in grouped.conditions if name in config.nuisances]
    for name, told in test.items() if conditions else ():
        try:
            fit, truths = _of_table(config, models[name], conditions)
            for condition in conditions:
                own = np.isin(told.ids, grouped.names)
                truth = grouped.conditions[condition][np.searchsorted(grouped.names, told.ids[own])]
                arrays = (told.mean[own], told.log_var[own], truth, told.counts[own])
                pair = Codes.of(fit.mean, fit.log_var, truths[condition], fit.counts), Codes.of(*arrays)
                one = recovered(*pair)
                found.setdefault(tagger_of(name), {}).setdefault(condition, []).append(one)
                mapped.setdefault(tagger_of(name), {}).setdefault(condition, under(*pair))
        except InputError as err:
            notes.append(f"{name}: codes were not set against the true conditions: {err}")
    return found, mapped


def _of_table(config: Config, model: Path, conditions: Sequence[str]) -> tuple[Told, dict[str, Any]]:
    """Codes and conditions of validation groups; where these are few, of those of training as well."""
    table = Table.open(config.output_folder / "table")
    parts: list[tuple[Part, ...]] = [("validation",), ("validation", "train")]
    for some in parts:
        told, truths = _codes(config, model, table, conditions, some)
        if len(told.ids) >= ENOUGH:
            break
    return told, truths


def _codes(
    config: Config, model: Path, table: Table, conditions: Sequence[str], parts: Sequence[Part]
) -> tuple[Told, dict[str, Any]]:
    """Codes of the table's groups of some parts, one shard at a time, and the conditions of these groups."""
    from hepdecorr.columnar.groups import Pooling
    from hepdecorr.columnar.tagger import OnnxTagger

    tagger = OnnxTagger(model, base=config.base)
    pooling = Pooling(model, tagger.card, sha256=tagger.sha256, batch_size=BATCH)
    columns = list(dict.fromkeys([*tagger.feature_names, *conditions, GROUP]))
    sums: list[GroupSums] = []
    seen: list[Arrays] = []
    for part in parts:
        for arrays in table.iterate(columns, select=Selection(part, config.table_split)):
            if len(arrays[GROUP]):
                sums.append(pooling.summed(tagger.stack(arrays), arrays[GROUP]))
                seen.append({name: arrays[name] for name in [*conditions, GROUP]})
    if not sums:
        raise InputError(f"{table.folder}: no events of {' or '.join(parts)} to fit a map on")
    codes = pooling.pool(functools.reduce(operator.add, sums))
    every = {name: np.concatenate([one[name] for one in seen]) for name in seen[0]}
    place = np.searchsorted(codes.ids, every[GROUP])
    truths = {name: of_groups(every[name], place, codes.ids, name=name) for name in conditions}
    return Told(codes.ids, codes.counts, codes.mean, codes.log_var), truths
