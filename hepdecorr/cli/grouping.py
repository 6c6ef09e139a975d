"""Taggers between groups, measured on the score table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hepdecorr.cli import measuring, recovering, show
from hepdecorr.cli.further import tagger_of
from hepdecorr.cli.recovering import GROUP, Told
from hepdecorr.config import Config
from hepdecorr.errors import InputError
from hepdecorr.table import Table
from hepdecorr.validation.content import write
from hepdecorr.validation.group_content import BetweenGroups
from hepdecorr.validation.measures import (
    ByGroup,
    Grouped,
    Protected,
    Steadier,
    by_group,
    steadier,
)
from hepdecorr.validation.measures.grouped import of_groups


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
    test = recovering.of_test(config, models)
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
    told = recovering.recovery(config, models, test, grouped)
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
        recovered=told.recovered,
        mapped=told.mapped,
        thinned=told.thinned,
        titles=titles,
        rejection=config.report.groups.rejection,
        shown=config.report.groups.taggers,
        notes=[*notes, *told.notes],
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
