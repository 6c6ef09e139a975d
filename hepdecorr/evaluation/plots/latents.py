"""Latents of a representation: what each knows of the nuisances, and what moving one does.

What becomes of a representation as one value of its config changes, such as beta of a VAE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from hepdecorr.errors import InputError
from hepdecorr.evaluation.plots.scans import ScanAxis, draw_error_bars, make_scan_axis
from hepdecorr.evaluation.plots.scores import draw_density
from hepdecorr.evaluation.plots.style import (
    COLOURS,
    LINE_STYLES,
    MARKERS,
    add_legend_above,
    axis_label,
    marker_style,
    new_figure,
    panel_grid,
    with_style,
)
from hepdecorr.stats.results import Array, Estimate

MAX_FEATURES_SHOWN = 12  # features shown of an intervention


class LatentInformation(NamedTuple):
    """Mutual information of latents and nuisances of one tagger."""

    nats: Array  # (latents, nuisances)
    nuisances: Sequence[str]
    keep_mask: NDArray[np.bool_]  # (latents,)


class Traversal(NamedTuple):
    """What moving a latent does to the decoded features, and how events differ; (shifts, features) each."""

    features: Sequence[str]
    shifts: Array  # (shifts,), in deviations
    change: Array
    change_error: Array
    observed: Array
    observed_error: Array


@with_style
def plot_latent_information(information: Mapping[str, LatentInformation]) -> Figure:
    """One matrix a tagger, latents across and nuisances down; latents that are cut out are framed."""
    if not information:
        raise InputError("information: no tagger with latents; give at least one")
    deepest = max(len(one.nuisances) for one in information.values())
    drawn, axes = panel_grid(
        len(information), width=6.6, height=1.0 + 0.45 * deepest, columns=1, share_axes=False
    )
    top = max(float(one.nats.max()) for one in information.values())
    for ax, (name, one) in zip(axes, information.items(), strict=True):
        nats = np.maximum(one.nats.T, 0)
        image = ax.imshow(nats, cmap="Greys", vmin=0, vmax=max(top, 1e-3), aspect="auto")
        for (row, column), value in np.ndenumerate(nats):
            colour = "white" if value > 0.6 * top else "black"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7)
        for column in np.flatnonzero(~np.asarray(one.keep_mask, dtype=bool)):
            frame = Rectangle((column - 0.5, -0.5), 1, len(one.nuisances), fill=False)
            frame.set(edgecolor=COLOURS[1], linewidth=2.0, clip_on=False, zorder=3)
            ax.add_patch(frame)
        ax.set_title(name, loc="left")
        ax.set_yticks(range(len(one.nuisances)), one.nuisances)
        ax.set_xticks(range(len(nats[0])), [str(k) for k in range(len(nats[0]))])
        ax.minorticks_off()
        ax.tick_params(which="both", length=0, labelbottom=True)
    axes[-1].set_xlabel("Latent")
    drawn.colorbar(image, ax=axes, label="Mutual information [nats]", shrink=0.9)
    return drawn


@with_style
def plot_latents_against_nuisance(
    mean: Array,
    nuisance_values: Array,
    *,
    weight: Array,
    correlations: Sequence[Estimate | None],
    kl: Array | None = None,
    nats: Array | None = None,
    nuisance: str = "",
    unit: str = "",
) -> Figure:
    """Each latent's posterior mean against a nuisance, one panel a latent: density and quantiles.

    mean: (events, latents); nuisance_values, weight: (events,); correlations: rank correlation of each
    latent, None where its mean is constant; kl, and nats, the mutual information with the nuisance:
    (latents,). The range is what holds 99 % of the events.
    """
    drawn, axes = panel_grid(mean.shape[1], width=2.3, height=2.5, columns=5, share_axes=False)
    low, high = (float(one) for one in np.quantile(nuisance_values, (0.005, 0.995)))
    inside = (nuisance_values >= low) & (nuisance_values <= high)
    last = None
    for k, ax in enumerate(axes):
        said = [] if kl is None else [f"KL {kl[k]:.2f}"]
        said += [] if nats is None else [f"I {max(nats[k], 0):.2f}"]
        if (found := correlations[k]) is None:
            ax.text(0.5, 0.5, "constant", transform=ax.transAxes, ha="center", color="0.4")
            ax.set_yticks([])
        else:
            draw_density(
                ax, mean[inside, k], nuisance_values[inside], weight[inside], span=(low, high), bins=40
            )
            said.append(rf"$\rho_S$ ${found.value:+.3f}$ ± {found.std or 0:.3f}")
            last = ax
        ax.set_title(f"Latent {k}\n{', '.join(said)}", loc="left", fontsize=8)
        ax.set_xlim(low, high)
        if k + 5 >= mean.shape[1]:
            ax.set_xlabel(axis_label(nuisance, unit))
    for ax in axes[::5]:
        ax.set_ylabel("Mean of the latent")
    if last is not None:
        add_legend_above(drawn, last)
    return drawn


@with_style
def plot_traversal(traversal: Traversal, *, nuisance: str, max_features: int = MAX_FEATURES_SHOWN) -> Figure:
    """Change of the features that change most, for each shift of the latent (points) and in events (open)."""
    size = np.nanmax(np.abs(np.stack([traversal.change, traversal.observed])), axis=(0, 1))
    shown = np.argsort(-size)[:max_features][::-1]
    drawn = new_figure(6.2, 1.2 + 0.34 * len(shown))
    ax = drawn.subplots()
    rows = np.arange(len(shown))
    offsets = np.linspace(0.28, -0.28, len(traversal.shifts))
    for number, shift in enumerate(traversal.shifts):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        place = rows + offsets[number]
        kwargs: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "none", "elinewidth": 0.8}
        ax.errorbar(
            traversal.change[number, shown],
            place,
            xerr=traversal.change_error[number, shown],
            label=f"latent moved by {shift:+g} σ",
            **kwargs,
        )
        ax.errorbar(
            traversal.observed[number, shown],
            place,
            xerr=traversal.observed_error[number, shown],
            markerfacecolor="white",
            label=f"events, {nuisance} {shift:+g} σ",
            **kwargs,
        )
    ax.axvline(0, color="0.6", linewidth=0.8, zorder=-1)
    ax.set_yticks(rows, [traversal.features[k] for k in shown])
    ax.tick_params(axis="y", which="minor", length=0)
    ax.set_xlabel("Change of the feature, in its deviations")
    drawn.legend(loc="outside upper center", ncols=2)
    return drawn


MIN_KL_SHOWN = 1e-4  # nats, the foot of the logarithmic axis: what has vanished stands there

LABEL_MERGE_DISTANCE = 0.06  # of an axis: points that cannot each be named


class LatentScanPoint(NamedTuple):
    """One value of a scan with what its representation is like: mean and spread over seeds.

    mse: the reconstruction's error, as the loss has it; kl: of all latents together, each: of every latent,
    in falling order, in nats; active: latents in use; correlation: the largest rank correlation, by absolute
    value, of a latent with the nuisance.
    """

    value: Any
    mse: Estimate | None
    kl: Estimate | None
    kl_per_latent: Sequence[float]
    num_active: Estimate
    correlation: Estimate | None


@with_style
def plot_latent_scan(
    lines: Mapping[str, Sequence[LatentScanPoint]], *, title: str, nuisance: str, active_threshold: float
) -> Figure:
    """Reconstruction, KL, latents in use and their correlation with the nuisance against the value of a key.

    Last, the reconstruction against the correlation, each point named by its value. lines: label -> steps in
    the order to join. active: nats above which a latent is in use, drawn as a level.
    """
    steps = [step for line in lines.values() for step in line]
    if not steps:
        raise InputError("latent_scan: no representation was measured; train at least one point")
    drawn = new_figure(11.4, 6.4)
    axes: list[Axes] = list(drawn.subplots(2, 3).flat)
    place = make_scan_axis([step.value for step in steps])
    for number, (label, line) in enumerate(lines.items()):
        style = {
            **marker_style(number),
            "linestyle": LINE_STYLES[number % len(LINE_STYLES)],
            "linewidth": 1.1,
        }
        _draw_line(axes[0], place, line, "mse", style, label=label)
        _draw_kl(axes[1], place, line, style)
        _draw_line(axes[2], place, line, "num_active", style)
        _draw_line(axes[3], place, line, "correlation", style)
        _draw_error_against_correlation(axes[4], line, style)
    axes[1].axhline(active_threshold, color="0.4", linewidth=0.9, linestyle=(0, (4, 3)), label="in use above")
    names = ["Reconstruction error", "KL [nats]", "Latents in use", rf"Largest $|\rho_S|$ with {nuisance}"]
    for ax, name in zip(axes, names, strict=False):
        ax.set_ylabel(name)
        ax.set_xlabel(title)
        place.format_axis(ax)
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


def _draw_line(
    ax: Axes,
    axis: ScanAxis,
    line: Sequence[LatentScanPoint],
    name: str,
    style: Mapping[str, Any],
    *,
    label: str = "",
) -> None:
    own = [(axis.position(step.value), getattr(step, name)) for step in line]
    own = [(x, found) for x, found in own if found is not None]
    draw_error_bars(ax, [x for x, _ in own], [found for _, found in own], label=label or None, **style)


def _draw_kl(ax: Axes, axis: ScanAxis, line: Sequence[LatentScanPoint], style: Mapping[str, Any]) -> None:
    """The sum with its points, and every latent as a thin line; below LEAST everything stands at the foot."""
    told = [step for step in line if step.kl is not None]
    if not told:
        return
    x = [axis.position(step.value) for step in told]
    for k in range(min(len(step.kl_per_latent) for step in told)):
        heights = [max(step.kl_per_latent[k], MIN_KL_SHOWN) for step in told]
        name = None if k or _has_label(ax, "each latent") else "each latent"
        ax.plot(x, heights, color="0.55", linewidth=0.7, linestyle=style["linestyle"], label=name)
    found = [
        Estimate(*(max(end, MIN_KL_SHOWN) for end in (one.value, one.low, one.high)))
        for one in (step.kl for step in told)
        if one is not None
    ]
    draw_error_bars(ax, x, found, label=None if _has_label(ax, "all latents") else "all latents", **style)
    ax.set_yscale("log")
    ax.set_ylim(bottom=MIN_KL_SHOWN / 1.5)


def _has_label(ax: Axes, label: str) -> bool:
    return label in ax.get_legend_handles_labels()[1]


def _draw_error_against_correlation(
    ax: Axes, line: Sequence[LatentScanPoint], style: Mapping[str, Any]
) -> None:
    own = [(step.value, step.correlation, step.mse) for step in line]
    both = [(value, x, y) for value, x, y in own if x is not None and y is not None]
    if not both:
        return
    xs, ys = [x for _, x, _ in both], [y for _, _, y in both]
    draw_error_bars(ax, [x.value for x in xs], ys, **{**style, "linewidth": 0.8})
    reach = [[x.value - x.low for x in xs], [x.high - x.value for x in xs]]
    middle = [y.value for y in ys]
    ax.errorbar([x.value for x in xs], middle, xerr=reach, fmt="none", ecolor=style["color"], linewidth=0.8)
    ax.margins(y=0.15)
    for names, x, y in _merge_labels([(f"{value}", x.value, y.value) for value, x, y in both]):
        offset: dict[str, Any] = {"xytext": (5, 4), "textcoords": "offset points", "fontsize": 8}
        ax.annotate(names, (x, y), color="0.25", **offset)


def _merge_labels(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Names of neighbours that would be written on each other stand in one text."""
    span = max(y for *_, y in points) - min(y for *_, y in points) or 1.0
    found: list[tuple[str, float, float]] = []
    for name, x, y in points:
        if (
            found
            and abs(x - found[-1][1]) < LABEL_MERGE_DISTANCE
            and abs(y - found[-1][2]) < LABEL_MERGE_DISTANCE * span
        ):
            found[-1] = (f"{found[-1][0]}, {name}", *found[-1][1:])
        else:
            found.append((name, x, y))
    return found
