"""The tables of a report: evaluations in, markup out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hepdecorr.validation import captions
from hepdecorr.validation.measures import (
    Evaluation,
    HalfSignal,
    Measured,
    Sculpting,
    SignalEfficiency,
    significant,
)
from hepdecorr.validation.page import Cell, across, folded, paragraph, table, warning
from hepdecorr.validation.shifts import Shifted

Taggers = Mapping[str, Sequence[Evaluation]]
Rows = list[Sequence[str | Cell]]


def summary(taggers: Taggers) -> str:
    """One row per tagger: separation, independence, verdict."""
    shown = [one.rejection for one in _first(taggers).signal_efficiency][-4:]
    header = [
        "Tagger",
        "seeds",
        "AUC",
        *(f"signal efficiency at {100 * value:g} % rejection" for value in shown),
    ]
    header += ["dCor² (p)", "fresh adversary's gain [nats] (p)", "<Verdict, over all working points"]
    rows: Rows = []
    for name, seeds in taggers.items():
        row: list[str | Cell] = [name, str(len(seeds)), across([one.auc for one in seeds])]
        row += [across([one.at(value)[0].efficiency for one in seeds]) for value in shown]
        distances = [one.dcor2 for one in seeds]
        audits = [one.audit for one in seeds if one.audit is not None]
        row.append(_tested([one.dcor2 for one in distances], [one.p_value for one in distances]))
        row.append(_tested([one.gain for one in audits], [one.p_value for one in audits]))
        rows.append([*row, overall(seeds)])
    return table(header, rows)


def sculpting(taggers: Taggers) -> str:
    """One row per tagger and working point: the JSD with its floor, limit and adjusted p-value."""
    header = ["Tagger", "rejection", "n pass / fail", f"JSD [{_unit(_first(taggers))}]", "floor", "excess"]
    header += ["excess, 95 % upper limit", "p (Holm)", "<Verdict"]
    rows: Rows = []
    for name, seeds in taggers.items():
        for rejection in (one.rejection for one in seeds[0].sculpting):
            points = [one.at(rejection) for one in seeds]
            measured = [point[1] for point in points]
            n_pass = _mean(one.n_pass_effective for one in measured)
            n_fail = _mean(one.n_fail_effective for one in measured)
            rows.append(
                [
                    name,
                    f"{100 * rejection:g} %",
                    f"{n_pass:,.0f} / {n_fail:,.0f}",
                    across([one.jsd for one in measured]),
                    significant(_mean(one.floor for one in measured)),
                    significant(_mean(one.excess for one in measured)),
                    significant(max(one.excess_upper for one in measured)),
                    _p([point[2] for point in points]),
                    _verdict(points),
                ]
            )
    return table(header, rows)


def definition(one: Evaluation) -> str:
    """What the JSD is, in words, with every setting that changes its value."""
    used = one.sculpting[0]
    return captions.DEFINITION.format(
        unit=_unit(one),
        bins=used.bins,
        nuisance=one.nuisance,
        low=used.range[0],
        high=used.range[1],
        axis_unit=f" {one.unit}" if one.unit else "",
        weighting="weighted, counts are effective" if one.weighted else "unweighted",
        outside=used.outside_pass + used.outside_fail,
        kept="left out of the spectra" if used.outside == "exclude" else "in two more bins",
        null="without sculpting" if one.weighted else "if the same events passed by lot",
        permutations=used.permutations,
        draws="draws of both weighted spectra from their sum" if one.weighted else "permutations",
    )


def closures(taggers: Taggers) -> list[str]:
    """Asked and found background rejection of frozen thresholds; a sentence when none were given."""
    rows: Rows = [
        [
            name,
            str(one.seed),
            f"{100 * point.rejection:g} %",
            _percent(point.found),
            f"{point.pull:+.1f}",
            f"{point.background_events:,}",
            f"{point.threshold:.6g}",
        ]
        for name, seeds in taggers.items()
        for one in seeds
        for point in one.closures
    ]
    if not rows:
        return [paragraph(captions.NO_CLOSURE)]
    header = [
        "Tagger",
        "seed",
        "rejection asked",
        "found [68 %]",
        "pull",
        "background passing",
        "threshold (logit)",
    ]
    return [paragraph(captions.CLOSURE), table(header, rows)]


def half_signal(taggers: Taggers, mapped: Taggers | None = None) -> list[str]:
    """R50 and 1/JSD at 50 % signal efficiency, beside what statistics alone allow, and whether that is it.

    mapped: tagger -> evaluations of its score after a quantile map, as rows below the tagger's own.
    """
    header = ["Tagger", "R50", "1/JSD [1/nats]", "limit 1/floor [1/nats]", "1/JSD [1/bits]"]
    header += ["limit 1/floor [1/bits]", "JSD [nats]", "excess, 95 % upper limit [nats]", "p", "<Verdict"]
    rows: Rows = []
    for name, seeds in taggers.items():
        rows.append(_half(name, seeds))
        if mapped and name in mapped:
            rows.append(_half(f"{name}, quantile map", mapped[name]))
    text = captions.HALF_SIGNAL + (captions.MAPPED if mapped else "")
    return [paragraph(text), table(header, rows)]


def _half(name: str, seeds: Sequence[Evaluation]) -> list[str | Cell]:
    halves = [one.half_signal for one in seeds]
    found = [one.sculpting for one in halves if one.sculpting is not None]
    nats = [math.log(2) if one.log_base == "2" else 1.0 for one in found]
    limits = [one.excess_upper * scale for one, scale in zip(found, nats, strict=True)]
    return [
        name,
        across([one.r50 for one in halves]),
        across([one.inverse_jsd_nats for one in halves]),
        _level([one.inverse_floor_nats for one in halves]),
        across([one.inverse_jsd_bits for one in halves]),
        _level([one.inverse_floor_bits for one in halves]),
        across([one.jsd.scaled(scale) for one, scale in zip(found, nats, strict=True)]),
        significant(max(limits)) if limits else "–",
        _p([one.p_value for one in halves if math.isfinite(one.p_value)]),
        _at_limit(halves),
    ]


def _at_limit(halves: Sequence[HalfSignal]) -> Cell:
    here = sum(one.at_limit for one in halves)
    if any(one.sculpting is None for one in halves):
        return Cell("no background passes: not measurable", "bad")
    if len(halves) == 1:
        text = "1/JSD at its statistical limit: no sculpting resolved" if here else halves[0].verdict
        return Cell(text, "good" if here else "bad")
    if here == len(halves):
        return Cell(f"1/JSD at its statistical limit in {len(halves)} seeds: no sculpting resolved", "good")
    return Cell(f"sculpts in {len(halves) - here} of {len(halves)} seeds", "bad")


def shifted(found: Sequence[Shifted]) -> str:
    """One row per tagger and shift: what becomes of efficiencies and JSD at a frozen threshold."""
    header = ["Tagger", "<Shift", "rejection asked", "background efficiency", "change"]
    header += ["signal efficiency", "change", "JSD [nats]", "change", "floor"]
    rows: Rows = []
    for one in found:
        nominal = one.shift == "nominal"
        rows.append(
            [
                one.tagger,
                Cell(one.shift),
                f"{100 * one.rejection:g} %",
                f"{significant(one.background_efficiency, 3)}",
                "–" if nominal else f"{100 * one.background_change:+.1f} %",
                f"{significant(one.signal_efficiency, 3)}",
                "–" if nominal else f"{100 * one.signal_change:+.1f} %",
                significant(one.jsd),
                "–" if nominal else f"{'+' if one.jsd_change >= 0 else ''}{significant(one.jsd_change)}",
                significant(one.floor),
            ]
        )
    return table(header, rows)


def incomplete(reports: Mapping[str, Any]) -> list[str]:
    """A warning for every run that did not see all its events."""
    return [
        warning(f"Incomplete: {title}. The figures below come from part of the events.")
        for title, one in _runs(reports)
        if not one.get("complete", True)
    ]


def completeness(reports: Mapping[str, Any]) -> list[str]:
    """Files and events asked for and processed, and every file that could not be read."""
    rows: Rows = []
    lost: list[str] = []
    for title, one in _runs(reports):
        done = Cell("complete", "good") if one.get("complete", True) else Cell("incomplete", "bad")
        counts = (_count(one.get(key)) for key in ("files", "events_expected", "events_processed"))
        rows.append([title, *counts, done])
        lost += [f"{bad.get('file')}: {bad.get('reason')}" for bad in one.get("unreadable") or []]
    body = [table(["Run", "files", "events expected", "events processed", "<State"], rows)] if rows else []
    return [*body, folded(f"Unreadable files ({len(lost)})", "\n".join(lost))] if lost else body


def note(seeds: Sequence[Evaluation], rejection: float) -> str:
    """Two short lines for a figure; none when this rejection was not evaluated."""
    if not any(abs(rejection - one.rejection) < 1e-9 for one in seeds[0].sculpting):
        return ""
    _, measured, p_value, _ = seeds[0].at(rejection)
    if p_value > 0.05:
        limit = f"{significant(measured.excess_upper)} {_unit(seeds[0])}"
        return f"no sculpting resolved\nexcess < {limit} (95 % CL)"
    size = f"{significant(measured.jsd.value)} {_unit(seeds[0])}"
    return f"sculpts: JSD {size}\n= {significant(measured.in_floors)} floors"


def _runs(reports: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    if "complete" in reports:
        return [("this run", reports)]
    return [(str(name), one) for name, one in reports.items() if isinstance(one, Mapping)]


def _count(value: Any) -> str:
    if isinstance(value, (list, tuple, dict)):
        return f"{len(value):,}"
    return f"{value:,}" if isinstance(value, int) else "–"


def _first(taggers: Taggers) -> Evaluation:
    return next(iter(taggers.values()))[0]


def _unit(one: Evaluation) -> str:
    return "nats" if one.sculpting[0].log_base == "e" else "bits"


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _level(values: Sequence[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    return significant(_mean(finite), 3) if finite else "–"


def _tested(measured: Sequence[Measured], p_values: Sequence[float]) -> str:
    return f"{across(measured)} ({_p(p_values)})" if measured else "–"


def _p(values: Sequence[float]) -> str:
    """One p-value, or the median with the range of several."""
    if not values:
        return "–"
    middle, least, most = (
        "< 1e-10" if value < 1e-10 else significant(float(value))
        for value in (np.median(values), min(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} [{least}, {most}]"


def _percent(found: Measured) -> str:
    value, low, high = (100 * one for one in (found.value, found.low, found.high))
    return f"{value:.3f} % [{low:.3f}, {high:.3f}]"


def _verdict(points: Sequence[tuple[SignalEfficiency, Sculpting, float, str]]) -> Cell:
    resolved = sum(point[2] <= 0.05 for point in points)
    if len(points) == 1:
        return Cell(points[0][3], "bad" if resolved else "good")
    if not resolved:
        return Cell(f"no sculpting resolved in {len(points)} seeds", "good")
    return Cell(f"sculpts in {resolved} of {len(points)} seeds", "bad")


def overall(seeds: Sequence[Evaluation]) -> Cell:
    """Where a tagger sculpts, over all working points and seeds."""
    where = {
        point.rejection
        for one in seeds
        for point, p_value in zip(one.sculpting, one.p_holm, strict=True)
        if p_value <= 0.05
    }
    if not where:
        worst = significant(max(point.excess_upper for one in seeds for point in one.sculpting))
        return Cell(f"no sculpting resolved (excess below {worst} {_unit(seeds[0])} throughout)", "good")
    text = f"sculpts at {', '.join(f'{100 * value:g}' for value in sorted(where))} %"
    bad = sum(one.sculpts for one in seeds)
    return Cell(text if len(seeds) == 1 else f"{text} ({bad} of {len(seeds)} seeds)", "bad")
