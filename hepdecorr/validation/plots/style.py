"""One look for every figure: mplhep's ticks and fonts at the size of a page, legible in grey."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import mplhep
from matplotlib.axes import Axes
from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")

# Okabe and Ito's colours, in an order whose greys differ; line styles and markers repeat the distinction.
COLOURS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#5D5D5D")
LINES: tuple[Any, ...] = (
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (7, 2)),
    (0, (1, 1)),
    (0, (3, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BEFORE = "#C8CDD3"
FEW = 7  # entries that a legend may have within a panel

_SIZES = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    # Named fonts: a generic family would be looked up in the caller's settings when the figure is drawn.
    "font.family": ["TeX Gyre Heros", "DejaVu Sans"],
    "mathtext.fontset": "stixsans",
    "font.size": 10,
    "axes.labelsize": 11,
    "axes.titlesize": 11,
    "axes.linewidth": 0.8,
    "axes.formatter.useoffset": False,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "xtick.major.size": 5,
    "xtick.minor.size": 2.5,
    "ytick.major.size": 5,
    "ytick.minor.size": 2.5,
    "xtick.major.pad": 4,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "patch.linewidth": 1.2,
    "hatch.linewidth": 0.5,
    "errorbar.capsize": 0,
    "xaxis.labellocation": "right",
    "yaxis.labellocation": "top",
}
# Any: matplotlib types the keys one by one.
STYLE: Any = {
    key: value
    for key, value in mplhep.style.ROOT.items()
    if key.startswith(("xtick", "ytick", "axes.unicode_minus")) and not key.endswith("labelsize")
} | _SIZES


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """The function under the house style; the caller's matplotlib settings stay as they are."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return inside


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, unknown to pyplot: nothing to close, nothing leaks."""
    return Figure(figsize=(width, height), layout="constrained")


def grid(
    panels: int, *, width: float, height: float, columns: int = 4, share: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels of the given size, at most `columns` in a row; no empty frames."""
    across = min(panels, columns)
    down = math.ceil(panels / across)
    drawn = figure(width * across + 0.5, height * down + 0.3)
    axes = drawn.subplots(down, across, squeeze=False, sharex=share, sharey=share).flat
    for spare in axes[panels:]:
        spare.set_visible(False)
    for number, ax in enumerate(axes[:panels]):
        # The panel above a hidden one is the last of its column.
        ax.xaxis.set_tick_params(labelbottom=number + across >= panels)
    return drawn, list(axes[:panels])


def legend_above(drawn: Figure, ax: Axes) -> None:
    """One legend for all panels, above them, from the entries of one panel."""
    handles, labels = ax.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 6))


def axis_label(title: str, unit: str) -> str:
    """'Title [unit]'."""
    return f"{title} [{unit}]" if unit else title


def look(number: int) -> dict[str, Any]:
    """Colour and line style of the n-th curve; beyond the colours each comes again with another line."""
    turn, place = divmod(number, len(COLOURS))
    return {"color": COLOURS[place], "linestyle": LINES[(place + turn) % len(LINES)]}


def marker(number: int) -> dict[str, Any]:
    """Colour and marker of the n-th point; beyond the colours each comes again with another marker."""
    turn, place = divmod(number, len(COLOURS))
    return {"color": COLOURS[place], "marker": MARKERS[(place + 3 * turn) % len(MARKERS)]}


def legend_where(drawn: Figure, ax: Axes, loc: Any, *, few: int = FEW) -> None:
    """A legend inside the panel; beside it where that many entries would hide what is drawn."""
    handles, labels = ax.get_legend_handles_labels()
    if len(labels) <= few:
        ax.legend(handles, labels, loc=loc)
        return
    width, height = drawn.get_size_inches()
    drawn.set_size_inches(width + 0.7 + 0.06 * max(len(label) for label in labels), height)
    drawn.legend(handles, labels, loc="outside right upper")


def steps(ax: Axes, edges: Any, values: Any, **kwargs: Any) -> None:
    """A histogram's outline without walls at its ends."""
    ax.stairs(values, edges, baseline=None, **kwargs)
