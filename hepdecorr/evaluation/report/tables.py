"""The tables of a report: evaluations in, markup out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hepdecorr.evaluation.metrics import (
    Estimate,
    Evaluation,
    R50Point,
    Sculpting,
    SignalEfficiency,
    format_significant,
)
from hepdecorr.evaluation.metrics.systematics import SystematicEffect
from hepdecorr.evaluation.report import texts
from hepdecorr.evaluation.report.page import (
    TableCell,
    details_pre,
    format_over_seeds,
    html_table,
    paragraph,
    warning,
)

EvaluationsByTagger = Mapping[str, Sequence[Evaluation]]
TableRows = list[Sequence[str | TableCell]]


def summary_table(taggers: EvaluationsByTagger) -> str:
    """One row per tagger: separation, independence, verdict."""
    shown = [one.rejection for one in _first_evaluation(taggers).signal_efficiency][-4:]
    header = [
        "Tagger",
        "seeds",
        "AUC",
        *(f"signal efficiency at {100 * value:g} % rejection" for value in shown),
    ]
    header += ["dCor² (p)", "fresh adversary's gain [nats] (p)", "<Verdict, over all working points"]
    rows: TableRows = []
    for name, seeds in taggers.items():
        row: list[str | TableCell] = [name, str(len(seeds)), format_over_seeds([one.auc for one in seeds])]
        row += [
            format_over_seeds([one.at_rejection(value)[0].efficiency for one in seeds]) for value in shown
        ]
        distances = [one.dcor2 for one in seeds]
        audits = [one.audit for one in seeds if one.audit is not None]
        row.append(
            _format_with_p_values([one.dcor2 for one in distances], [one.p_value for one in distances])
        )
        row.append(_format_with_p_values([one.gain for one in audits], [one.p_value for one in audits]))
        rows.append([*row, sculpting_cell(seeds)])
    return html_table(header, rows)


def sculpting_table(taggers: EvaluationsByTagger) -> str:
    """One row per tagger and working point: the JSD with its floor, limit and adjusted p-value."""
    header = [
        "Tagger",
        "rejection",
        "n pass / fail",
        f"JSD [{_information_unit(_first_evaluation(taggers))}]",
        "floor",
        "excess",
    ]
    header += ["excess, 95 % upper limit", "p (Holm)", "<Verdict"]
    rows: TableRows = []
    for name, seeds in taggers.items():
        for rejection in (one.rejection for one in seeds[0].sculpting):
            points = [one.at_rejection(rejection) for one in seeds]
            measured = [point[1] for point in points]
            n_pass = _mean(one.n_pass_effective for one in measured)
            n_fail = _mean(one.n_fail_effective for one in measured)
            rows.append(
                [
                    name,
                    f"{100 * rejection:g} %",
                    f"{n_pass:,.0f} / {n_fail:,.0f}",
                    format_over_seeds([one.jsd for one in measured]),
                    format_significant(_mean(one.floor for one in measured)),
                    format_significant(_mean(one.excess for one in measured)),
                    format_significant(max(one.excess_upper for one in measured)),
                    _format_p_values([point[2] for point in points]),
                    _verdict_cell(points),
                ]
            )
    return html_table(header, rows)


def jsd_definition(evaluation: Evaluation) -> str:
    """What the JSD is, in words, with every setting that changes its value."""
    used = evaluation.sculpting[0]
    return texts.JSD_DEFINITION_TEXT.format(
        unit=_information_unit(evaluation),
        bins=used.bins,
        nuisance=evaluation.nuisance,
        low=used.range[0],
        high=used.range[1],
        axis_unit=f" {evaluation.unit}" if evaluation.unit else "",
        weighting="weighted, counts are effective" if evaluation.weighted else "unweighted",
        outside=used.outside_pass + used.outside_fail,
        kept="left out of the spectra" if used.outside == "exclude" else "in two more bins",
        null="without sculpting" if evaluation.weighted else "if the same events passed by lot",
        permutations=used.permutations,
        draws="draws of both weighted spectra from their sum" if evaluation.weighted else "permutations",
    )


def closure_tables(taggers: EvaluationsByTagger) -> list[str]:
    """Asked and found background rejection of frozen thresholds; a sentence when none were given."""
    rows: TableRows = [
        [
            name,
            str(one.seed),
            f"{100 * point.rejection:g} %",
            _format_percent_interval(point.observed_rejection),
            f"{point.pull:+.1f}",
            f"{point.background_events:,}",
            f"{point.threshold:.6g}",
        ]
        for name, seeds in taggers.items()
        for one in seeds
        for point in one.closures
    ]
    if not rows:
        return [paragraph(texts.NO_CLOSURE_TEXT)]
    header = [
        "Tagger",
        "seed",
        "rejection asked",
        "found [68 %]",
        "pull",
        "background passing",
        "threshold (logit)",
    ]
    return [paragraph(texts.CLOSURE_TEXT), html_table(header, rows)]


def r50_table(taggers: EvaluationsByTagger, quantile_mapped: EvaluationsByTagger | None = None) -> list[str]:
    """R50 and 1/JSD at 50 % signal efficiency, beside what statistics alone allow, and whether that is it.

    mapped: tagger -> evaluations of its score after a quantile map, as rows below the tagger's own.
    """
    header = ["Tagger", "R50", "1/JSD [1/nats]", "limit 1/floor [1/nats]", "1/JSD [1/bits]"]
    header += ["limit 1/floor [1/bits]", "JSD [nats]", "excess, 95 % upper limit [nats]", "p", "<Verdict"]
    rows: TableRows = []
    for name, seeds in taggers.items():
        rows.append(_r50_row(name, seeds))
        if quantile_mapped and name in quantile_mapped:
            rows.append(_r50_row(f"{name}, quantile map", quantile_mapped[name]))
    text = texts.R50_TEXT + (texts.QUANTILE_MAP_TEXT if quantile_mapped else "")
    return [paragraph(text), html_table(header, rows)]


def _r50_row(name: str, evaluations: Sequence[Evaluation]) -> list[str | TableCell]:
    halves = [one.at_half_signal_efficiency for one in evaluations]
    found = [one.sculpting for one in halves if one.sculpting is not None]
    nats = [math.log(2) if one.log_base == "2" else 1.0 for one in found]
    limits = [one.excess_upper * scale for one, scale in zip(found, nats, strict=True)]
    return [
        name,
        format_over_seeds([one.r50 for one in halves]),
        format_over_seeds([one.inverse_jsd_nats for one in halves]),
        _format_mean([one.inverse_floor_nats for one in halves]),
        format_over_seeds([one.inverse_jsd_bits for one in halves]),
        _format_mean([one.inverse_floor_bits for one in halves]),
        format_over_seeds([one.jsd.scaled(scale) for one, scale in zip(found, nats, strict=True)]),
        format_significant(max(limits)) if limits else "–",
        _format_p_values([one.p_value for one in halves if math.isfinite(one.p_value)]),
        _statistical_limit_cell(halves),
    ]


def _statistical_limit_cell(r50_points: Sequence[R50Point]) -> TableCell:
    here = sum(one.at_limit for one in r50_points)
    if any(one.sculpting is None for one in r50_points):
        return TableCell("no background passes: not measurable", "bad")
    if len(r50_points) == 1:
        text = "1/JSD at its statistical limit: no sculpting resolved" if here else r50_points[0].verdict
        return TableCell(text, "good" if here else "bad")
    if here == len(r50_points):
        return TableCell(
            f"1/JSD at its statistical limit in {len(r50_points)} seeds: no sculpting resolved", "good"
        )
    return TableCell(f"sculpts in {len(r50_points) - here} of {len(r50_points)} seeds", "bad")


def systematics_table(effects: Sequence[SystematicEffect]) -> str:
    """One row per tagger and shift: what becomes of efficiencies and JSD at a frozen threshold."""
    header = ["Tagger", "<Shift", "rejection asked", "background efficiency", "change"]
    header += ["signal efficiency", "change", "JSD [nats]", "change", "floor"]
    rows: TableRows = []
    for one in effects:
        nominal = one.systematic == "nominal"
        rows.append(
            [
                one.tagger,
                TableCell(one.systematic),
                f"{100 * one.rejection:g} %",
                f"{format_significant(one.background_efficiency, 3)}",
                "–" if nominal else f"{100 * one.background_change:+.1f} %",
                f"{format_significant(one.signal_efficiency, 3)}",
                "–" if nominal else f"{100 * one.signal_change:+.1f} %",
                format_significant(one.jsd),
                "–"
                if nominal
                else f"{'+' if one.jsd_change >= 0 else ''}{format_significant(one.jsd_change)}",
                format_significant(one.floor),
            ]
        )
    return html_table(header, rows)


def incomplete_warnings(reports: Mapping[str, Any]) -> list[str]:
    """A warning for every run that did not see all its events."""
    return [
        warning(f"Incomplete: {title}. The figures below come from part of the events.")
        for title, one in _named_reports(reports)
        if not one.get("complete", True)
    ]


def completeness_tables(reports: Mapping[str, Any]) -> list[str]:
    """Files and events asked for and processed, and every file that could not be read."""
    rows: TableRows = []
    lost: list[str] = []
    for title, one in _named_reports(reports):
        done = TableCell("complete", "good") if one.get("complete", True) else TableCell("incomplete", "bad")
        counts = (_format_count(one.get(key)) for key in ("files", "events_expected", "events_processed"))
        rows.append([title, *counts, done])
        lost += [f"{bad.get('file')}: {bad.get('reason')}" for bad in one.get("unreadable") or []]
    body = (
        [html_table(["Run", "files", "events expected", "events processed", "<State"], rows)] if rows else []
    )
    return [*body, details_pre(f"Unreadable files ({len(lost)})", "\n".join(lost))] if lost else body


def panel_note(evaluations: Sequence[Evaluation], rejection: float) -> str:
    """Two short lines for a figure; none when this rejection was not evaluated."""
    if not any(abs(rejection - one.rejection) < 1e-9 for one in evaluations[0].sculpting):
        return ""
    _, measured, p_value, _ = evaluations[0].at_rejection(rejection)
    if p_value > 0.05:
        limit = f"{format_significant(measured.excess_upper)} {_information_unit(evaluations[0])}"
        return f"no sculpting resolved\nexcess < {limit} (95 % CL)"
    size = f"{format_significant(measured.jsd.value)} {_information_unit(evaluations[0])}"
    return f"sculpts: JSD {size}\n= {format_significant(measured.floor_ratio)} floors"


def _named_reports(reports: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    if "complete" in reports:
        return [("this run", reports)]
    return [(str(name), one) for name, one in reports.items() if isinstance(one, Mapping)]


def _format_count(value: Any) -> str:
    if isinstance(value, (list, tuple, dict)):
        return f"{len(value):,}"
    return f"{value:,}" if isinstance(value, int) else "–"


def _first_evaluation(taggers: EvaluationsByTagger) -> Evaluation:
    return next(iter(taggers.values()))[0]


def _information_unit(evaluation: Evaluation) -> str:
    return "nats" if evaluation.sculpting[0].log_base == "e" else "bits"


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _format_mean(values: Sequence[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    return format_significant(_mean(finite), 3) if finite else "–"


def _format_with_p_values(estimates: Sequence[Estimate], p_values: Sequence[float]) -> str:
    return f"{format_over_seeds(estimates)} ({_format_p_values(p_values)})" if estimates else "–"


def _format_p_values(values: Sequence[float]) -> str:
    """One p-value, or the median with the range of several."""
    if not values:
        return "–"
    middle, least, most = (
        "< 1e-10" if value < 1e-10 else format_significant(float(value))
        for value in (np.median(values), min(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} [{least}, {most}]"


def _format_percent_interval(estimate: Estimate) -> str:
    value, low, high = (100 * one for one in (estimate.value, estimate.low, estimate.high))
    return f"{value:.3f} % [{low:.3f}, {high:.3f}]"


def _verdict_cell(points: Sequence[tuple[SignalEfficiency, Sculpting, float, str]]) -> TableCell:
    resolved = sum(point[2] <= 0.05 for point in points)
    if len(points) == 1:
        return TableCell(points[0][3], "bad" if resolved else "good")
    if not resolved:
        return TableCell(f"no sculpting resolved in {len(points)} seeds", "good")
    return TableCell(f"sculpts in {resolved} of {len(points)} seeds", "bad")


def sculpting_cell(evaluations: Sequence[Evaluation]) -> TableCell:
    """Where a tagger sculpts, over all working points and seeds."""
    where = {
        point.rejection
        for one in evaluations
        for point, p_value in zip(one.sculpting, one.p_holm, strict=True)
        if p_value <= 0.05
    }
    if not where:
        worst = format_significant(max(point.excess_upper for one in evaluations for point in one.sculpting))
        return TableCell(
            f"no sculpting resolved (excess below {worst} {_information_unit(evaluations[0])} throughout)",
            "good",
        )
    text = f"sculpts at {', '.join(f'{100 * value:g}' for value in sorted(where))} %"
    bad = sum(one.sculpts for one in evaluations)
    return TableCell(text if len(evaluations) == 1 else f"{text} ({bad} of {len(evaluations)} seeds)", "bad")
