"""What becomes of a representation as one value of its config changes, such as beta of a VAE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import Measured
from hepdecorr.validation.plots.scans import Places, bars, places
from hepdecorr.validation.plots.style import LINES, figure, marker, styled

LEAST = 1e-4  # nats, the foot of the logarithmic axis: what has vanished stands there

NEAR = 0.06  # of an axis: points that cannot each be named


class LatentStep(NamedTuple):
    """One value of a scan with what its representation is like: mean and spread over seeds.

    mse: the reconstruction's error, as the loss has it; kl: of all latents together, each: of every latent,
    in falling order, in nats; active: latents in use; correlation: the largest rank correlation, by absolute
    value, of a latent with the nuisance.
    """

    value: Any
    mse: Measured | None
    kl: Measured | None
    each: Sequence[float]
    active: Measured
    correlation: Measured | None


@styled
def latent_scan(
    lines: Mapping[str, Sequence[LatentStep]], *, title: str, nuisance: str, active: float
) -> Figure:
    """Reconstruction, KL, latents in use and their correlation with the nuisance against the value of a key.

    Last, the reconstruction against the correlation, each point named by its value. lines: label -> steps in
    the order to join. active: nats above which a latent is in use, drawn as a level.
    """
    steps = [step for line in lines.values() for step in line]
    if not steps:
        raise InputError("latent_scan: no representation was measured; train at least one point")
    drawn = figure(11.4, 6.4)
    axes: list[Axes] = list(drawn.subplots(2, 3).flat)
    place = places([step.value for step in steps])
    for number, (label, line) in enumerate(lines.items()):
        style = {**marker(number), "linestyle": LINES[number % len(LINES)], "linewidth": 1.1}
        _line(axes[0], place, line, "mse", style, label=label)
        _kl(axes[1], place, line, style)
        _line(axes[2], place, line, "active", style)
        _line(axes[3], place, line, "correlation", style)
        _plane(axes[4], line, style)
    axes[1].axhline(active, color="0.4", linewidth=0.9, linestyle=(0, (4, 3)), label="in use above")
    names = ["Reconstruction error", "KL [nats]", "Latents in use", rf"Largest $|\rho_S|$ with {nuisance}"]
    for ax, name in zip(axes, names, strict=False):
        ax.set_ylabel(name)
        ax.set_xlabel(title)
        place.frame(ax)
    axes[2].set_ylim(bottom=-0.3)
    axes[3].set_ylim(0, 1)
    axes[4].set_xlim(0, 1.15)  # room for the names beside the points
    axes[4].set_xlabel(names[3])
    axes[4].set_ylabel(names[0])
    axes[5].set_visible(False)
    handles, labels = axes[1].get_legend_handles_labels()
    if len(lines) > 1:
        more = axes[0].get_legend_handles_labels()
        handles, labels = [*more[0], *handles], [*more[1], *labels]
    drawn.legend(handles, labels, loc="lower right", bbox_to_anchor=(0.98, 0.2))
    return drawn


def _line(
    ax: Axes,
    place: Places,
    line: Sequence[LatentStep],
    name: str,
    style: Mapping[str, Any],
    *,
    label: str = "",
) -> None:
    own = [(place.at(step.value), getattr(step, name)) for step in line]
    own = [(x, found) for x, found in own if found is not None]
    bars(ax, [x for x, _ in own], [found for _, found in own], label=label or None, **style)


def _kl(ax: Axes, place: Places, line: Sequence[LatentStep], style: Mapping[str, Any]) -> None:
    """The sum with its points, and every latent as a thin line; below LEAST everything stands at the foot."""
    told = [step for step in line if step.kl is not None]
    if not told:
        return
    x = [place.at(step.value) for step in told]
    for k in range(min(len(step.each) for step in told)):
        heights = [max(step.each[k], LEAST) for step in told]
        name = None if k or _has(ax, "each latent") else "each latent"
        ax.plot(x, heights, color="0.55", linewidth=0.7, linestyle=style["linestyle"], label=name)
    found = [
        Measured(*(max(end, LEAST) for end in (one.value, one.low, one.high)))
        for one in (step.kl for step in told)
        if one is not None
    ]
    bars(ax, x, found, label=None if _has(ax, "all latents") else "all latents", **style)
    ax.set_yscale("log")
    ax.set_ylim(bottom=LEAST / 1.5)


def _has(ax: Axes, label: str) -> bool:
    return label in ax.get_legend_handles_labels()[1]


def _plane(ax: Axes, line: Sequence[LatentStep], style: Mapping[str, Any]) -> None:
    own = [(step.value, step.correlation, step.mse) for step in line]
    both = [(value, x, y) for value, x, y in own if x is not None and y is not None]
    if not both:
        return
    xs, ys = [x for _, x, _ in both], [y for _, _, y in both]
    bars(ax, [x.value for x in xs], ys, **{**style, "linewidth": 0.8})
    reach = [[x.value - x.low for x in xs], [x.high - x.value for x in xs]]
    middle = [y.value for y in ys]
    ax.errorbar([x.value for x in xs], middle, xerr=reach, fmt="none", ecolor=style["color"], linewidth=0.8)
    ax.margins(y=0.15)
    for names, x, y in _joined([(f"{value}", x.value, y.value) for value, x, y in both]):
        offset: dict[str, Any] = {"xytext": (5, 4), "textcoords": "offset points", "fontsize": 8}
        ax.annotate(names, (x, y), color="0.25", **offset)


def _joined(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Names of neighbours that would be written on each other stand in one text."""
    span = max(y for *_, y in points) - min(y for *_, y in points) or 1.0
    found: list[tuple[str, float, float]] = []
    for name, x, y in points:
        if found and abs(x - found[-1][1]) < NEAR and abs(y - found[-1][2]) < NEAR * span:
            found[-1] = (f"{found[-1][0]}, {name}", *found[-1][1:])
        else:
            found.append((name, x, y))
    return found
