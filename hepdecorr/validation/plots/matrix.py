"""Areas under ROC curves as a matrix: scores down, signals across."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.numbers import Array
from hepdecorr.validation.plots.style import figure, styled

MEAN = "mean"
SHADE = 0.5  # of all greys that are used: black figures stay legible on them
WRAP = 11  # letters of a signal's title in one line


class Areas(NamedTuple):
    """Of one score: the area for each signal and, last, their mean; errors beside; (signals + 1,) each."""

    values: Sequence[float]
    errors: Sequence[float]


@styled
def auc_matrix(
    rows: Mapping[str, Areas], *, signals: Sequence[str], groups: Mapping[str, str] | None = None
) -> Figure:
    """One row a score, one column a signal, the mean over signals last; the darker the larger.

    Every cell holds the area and, below, its error; the largest of a column is bold. groups: score -> what
    it belongs to; a line parts the groups.
    """
    if not rows or not signals:
        raise InputError("auc_matrix: no scores or no signals; give at least one of each")
    names, columns = list(rows), [*signals, MEAN]
    values: Array = np.array([rows[name].values for name in names], dtype=np.float64)
    if values.shape != (len(names), len(columns)):
        raise InputError(f"auc_matrix: areas of shape {values.shape}, not {(len(names), len(columns))}")
    left = 0.5 + 0.075 * max(len(name) for name in names)
    drawn = figure(left + 0.82 * len(columns) + 0.9, 1.1 + 0.4 * len(names))
    ax = drawn.subplots()
    # Grey of rising depth: what is printed without colour is the same figure.
    low, high = min(float(np.nanmin(values)), 0.5), max(float(np.nanmax(values)), 0.55)
    image = ax.pcolormesh(values, cmap="Greys", vmin=low, vmax=low + (high - low) / SHADE)
    best = np.nanmax(np.round(values, 3), axis=0)
    for (row, column), value in np.ndenumerate(values):
        if not math.isfinite(value):
            continue
        about: dict[str, Any] = {"ha": "center", "color": "black"}
        weight = "bold" if round(value, 3) == best[column] and len(names) > 1 else "normal"
        ax.text(column + 0.5, row + 0.46, f"{value:.3f}", va="bottom", fontsize=8.5, weight=weight, **about)
        error = rows[names[row]].errors[column]
        ax.text(column + 0.5, row + 0.54, f"± {error:.3f}", va="top", fontsize=6.5, **about)
    ax.set_xticks(np.arange(len(columns)) + 0.5, [_wrapped(name) for name in columns], fontsize=8.5)
    ax.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=8.5)
    ax.tick_params(which="both", length=0, labeltop=True, labelbottom=False)
    ax.minorticks_off()
    ax.invert_yaxis()
    ax.axvline(len(signals), color="black", linewidth=1.5)
    parts = [(groups or {}).get(name, name) for name in names]
    for row in range(1, len(names)):
        if parts[row] != parts[row - 1]:
            ax.axhline(row, color="black" if len(set(parts)) < len(names) else "0.7", linewidth=0.8)
    bar = drawn.colorbar(image, ax=ax, label="AUC", pad=0.01, aspect=30)
    bar.ax.set_ylim(low, high)
    return drawn


def _wrapped(title: str) -> str:
    # What stands between dollars is one word: mathtext cannot be broken.
    words = title.split("$")
    whole = "$".join(w.replace(" ", "\0") if k % 2 else w for k, w in enumerate(words))
    return textwrap.fill(whole, WRAP, break_long_words=False, break_on_hyphens=False).replace("\0", " ")
