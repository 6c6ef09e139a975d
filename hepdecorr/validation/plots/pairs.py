"""Background spectra of a few scores side by side: with and without outlier exposure, for instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hist
from matplotlib.figure import Figure

from hepdecorr.errors import InputError
from hepdecorr.validation.plots.spectra import (
    draw_after,
    draw_before,
    draw_ratio,
    per_bin,
    rejections,
    some,
    spectrum,
)
from hepdecorr.validation.plots.style import axis_label, figure, legend_above, styled


@styled
def side_by_side(
    filled: hist.Hist[Any],
    *,
    scores: Mapping[str, str],
    labels: Mapping[str, int],
    points: Sequence[float] | None = None,
    notes: Mapping[str, str] | None = None,
    nuisance: str = "",
    unit: str = "",
) -> Figure:
    """One column a score: background before and after cuts, and below what passes over what fails.

    filled: see `spectrum`; scores: name on the axis of taggers -> title; labels: dataset -> 0 or 1; points:
    background rejections, by default at most three of those filled; notes: by name, a line for its panel.
    """
    datasets = [name for name, value in labels.items() if value == 0]
    if not scores or not datasets:
        raise InputError("side_by_side: no scores or no background; give at least one of each")
    chosen = some(rejections(filled)) if points is None else list(points)
    drawn = figure(3.3 * len(scores) + 0.6, 5.0)
    axes = drawn.subplots(2, len(scores), squeeze=False, sharex=True, sharey="row", height_ratios=(2.2, 1))
    top, reach = 0.0, [1.0, 1.0]
    for column, (name, title) in enumerate(scores.items()):
        upper, lower = axes[0, column], axes[1, column]
        before = spectrum(filled, tagger=name, category="before", datasets=datasets)
        draw_before(upper, before, label="before")
        top = max(top, float(before.shape.max()))
        for number, point in enumerate(chosen):
            passing, failing = (
                spectrum(filled, tagger=name, category=f"{which} {point:g}", datasets=datasets)
                for which in ("pass", "fail")
            )
            draw_after(upper, passing, number, label=f"after {100 * point:g} % rejection")
            draw_ratio(lower, passing, failing, number, of=len(chosen))
            top = max(top, float(passing.shape.max()))
            low, high = lower.get_ylim()
            reach = [min(reach[0], low), max(reach[1], high)]
        upper.set_title(title, loc="left")
        if notes and name in notes:
            about: dict[str, Any] = {"fontsize": 8, "ha": "right", "va": "top"}
            upper.text(0.96, 0.96, notes[name], transform=upper.transAxes, **about)
        lower.axhline(1, color="0.4", linewidth=0.8)
        lower.set_xlabel(axis_label(nuisance or filled.axes[-1].label, unit))
        lower.set_xlim(before.edges[0], before.edges[-1])
    axes[0, 0].set_ylim(0, 1.5 * top)
    # Panels share their scale, so that what sculpts is seen to.
    axes[1, 0].set_ylim(*reach)
    axes[0, 0].set_ylabel(per_bin(filled, unit))
    axes[1, 0].set_ylabel("pass / fail", loc="center")
    legend_above(drawn, axes[0, 0])
    return drawn
