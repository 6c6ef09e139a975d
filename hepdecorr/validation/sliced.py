"""Sections of a report on bins of the nuisance, and on the plane of two features where there are just two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hepdecorr.validation import captions, page, plots
from hepdecorr.validation.content import Figures, ReportInput
from hepdecorr.validation.measures import Information, InSlices, plain, significant
from hepdecorr.validation.page import Cell
from hepdecorr.validation.plots import Plane


def plane(content: ReportInput, figures: Figures, axis: Mapping[str, Any], *, stem: str) -> list[str]:
    """The score of every tagger over the plane of its features; nothing where these are not two."""
    known = [name for name in (content.plane.logits if content.plane else ()) if name in content.taggers]
    if content.plane is None or not known or stem not in content.plane.nuisances:
        return []
    shown: Plane = content.plane._replace(logits={name: content.plane.logits[name] for name in known})
    drawn = plots.surface(shown, nuisance=stem, slices=content.slices.get(stem), title=axis["nuisance"])
    return [page.heading("Decision surface", level=3), figures.add(drawn, "surface", stem)]


def in_slices(content: ReportInput, figures: Figures, axis: Mapping[str, Any], *, stem: str) -> list[str]:
    """What the score is worth, and what it tells, in bins of the nuisance; nothing where there are none."""
    slices = content.slices.get(stem)
    if slices is None:
        return []
    body = [page.heading("In bins of the protected variable", level=3)]
    if scores := {k: one for k, one in content.scores.get(stem, {}).items() if k in content.taggers}:
        drawn = plots.density_by_nuisance(scores, slices=slices, title=axis["nuisance"])
        body.append(figures.add(drawn, "byslice", stem))
    measured = content.in_slices.get(stem, {})
    if measured:
        first = {name: seeds[0] for name, seeds in measured.items()}
        drawn = plots.in_slices(first, slices=slices, **axis)
        body += [figures.add(drawn, "inslices", stem), information(measured)]
        body.append(page.paragraph(captions.INFORMATION, kind="soft"))
    return body


def information(taggers: Mapping[str, Sequence[InSlices]]) -> str:
    """One row per tagger: the mutual information of score and bin, of all events and of each class."""
    kinds = list(next(iter(taggers.values()))[0].information)
    header = ["Tagger", *(f"I(score; bin), {kind} [nats] (p)" for kind in kinds)]
    header += [f"the same, {kind}, equal bins" for kind in kinds]
    rows: list[list[str | Cell]] = []
    for name, seeds in taggers.items():
        found = [[one.information[kind] for one in seeds] for kind in kinds]
        found += [[one.equal[kind] for one in seeds] for kind in kinds]
        rows.append([name, *(_cell([one for one in many if one is not None]) for many in found)])
    return page.table(header, rows)


def _cell(measured: Sequence[Information]) -> str:
    if not measured:
        return "–"
    # Of several seeds the least: a family-wise statement is left to the tables of sculpting.
    p = min(one.p_value for one in measured)
    said = f"p {significant(p, 2)}" if p >= 1e-4 else "p < 0.0001"
    return f"{page.across([one.nats for one in measured])} ({said})"


def metrics(content: ReportInput) -> dict[str, Any]:
    """What these sections add to metrics.json; nothing where there is nothing of it."""
    found = {nuisance: plain(taggers) for nuisance, taggers in content.in_slices.items() if taggers}
    return {"in_slices": found} if found else {}
