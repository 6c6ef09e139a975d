"""How the training went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from hepdecorr.errors import InputError
from hepdecorr.validation.plots.style import COLOURS, FEW, LINES, MARKERS, grid, styled

WIDE = 50.0  # ratio of the largest to the smallest value from which on a panel is logarithmic

History = Mapping[str, Mapping[Any, float | None] | Sequence[float | None]]


@styled
def training_history(
    history: History,
    *,
    turns: Sequence[tuple[float, float, str]] = (),
    references: Mapping[str, float] | None = None,
) -> Figure:
    """One panel per part of the training, from curves named 'panel/curve'.

    history: curve -> {epoch: value} (keys may be strings, as JSON makes them) or a list from epoch 1 on; a
    name without a slash is a panel of its own. turns: (first epoch, last epoch, player) spans, shaded in
    every panel. references: 'panel/curve' -> a level to hold against, such as an adversary's floor.  A panel
    of positive values that are far apart is logarithmic.
    """
    panels: dict[str, list[tuple[str, list[float], list[float]]]] = {}
    for name, curve in history.items():
        panel, _, title = name.partition("/")
        items = curve.items() if isinstance(curve, Mapping) else enumerate(curve, start=1)
        points = sorted((float(epoch), float(value)) for epoch, value in items if value is not None)
        if points:
            panels.setdefault(panel, []).append(
                (title or panel, [p[0] for p in points], [p[1] for p in points])
            )
    if not panels:
        raise InputError("training_history: no curve holds a value; train at least one epoch")
    drawn, axes = grid(len(panels), width=3.6, height=2.9, columns=3, share=False)
    players = list(dict.fromkeys(player for _, _, player in turns))
    for ax, (panel, curves) in zip(axes, panels.items(), strict=True):
        for number, (title, epochs, values) in enumerate(curves):
            ax.plot(
                epochs,
                np.where(np.isfinite(values), values, np.nan),
                color=COLOURS[number % len(COLOURS)],
                linestyle=LINES[number % len(LINES)],
                marker=MARKERS[number % len(MARKERS)] if len(epochs) < 25 else "",
                label=title,
            )
        for first, last, player in turns:
            shade = _shade(players.index(player))
            ax.axvspan(first - 0.5, last + 0.5, facecolor=str(shade), edgecolor="none", zorder=-2)
        for name, level in (references or {}).items():
            if name.partition("/")[0] == panel:
                ax.axhline(
                    level, color="0.4", linewidth=0.9, linestyle=(0, (4, 3)), label=name.partition("/")[2]
                )
        ax.set_title(panel, loc="left")
        ax.set_xlabel("Epoch")
        ax.tick_params(labelbottom=True)
        if _far_apart([value for _, _, values in curves for value in values]):
            ax.set_yscale("log")
        if len(ax.get_legend_handles_labels()[1]) > FEW:
            ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.03), fontsize=7)
        else:
            ax.legend(loc="best")
    if players:
        patches = [Patch(color=_shade(number), label=f"turn: {name}") for number, name in enumerate(players)]
        drawn.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 6))
    return drawn


def _far_apart(values: Sequence[float]) -> bool:
    finite = [value for value in values if np.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > WIDE * min(finite)


def _shade(player: int) -> str:
    return str(0.96 - 0.05 * (player % 6))
