"""Latents of a representation: what each knows of the nuisances, and what moving one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.numbers import Array, Measured
from hepdecorr.validation.plots.scores import draw_density
from hepdecorr.validation.plots.style import COLOURS, MARKERS, axis_label, figure, grid, legend_above, styled

MOST = 12  # features shown of an intervention


class Information(NamedTuple):
    """Mutual information of latents and nuisances of one tagger."""

    nats: Array  # (latents, nuisances)
    nuisances: Sequence[str]
    kept: NDArray[np.bool_]  # (latents,)


class Moved(NamedTuple):
    """What moving a latent does to the decoded features, and how events differ; (shifts, features) each."""

    features: Sequence[str]
    shifts: Array  # (shifts,), in deviations
    change: Array
    change_error: Array
    observed: Array
    observed_error: Array


@styled
def information(found: Mapping[str, Information]) -> Figure:
    """One matrix a tagger, latents across and nuisances down; latents that are cut out are framed."""
    if not found:
        raise InputError("information: no tagger with latents; give at least one")
    deepest = max(len(one.nuisances) for one in found.values())
    drawn, axes = grid(len(found), width=6.6, height=1.0 + 0.45 * deepest, columns=1, share=False)
    top = max(float(one.nats.max()) for one in found.values())
    for ax, (name, one) in zip(axes, found.items(), strict=True):
        nats = np.maximum(one.nats.T, 0)
        image = ax.imshow(nats, cmap="Greys", vmin=0, vmax=max(top, 1e-3), aspect="auto")
        for (row, column), value in np.ndenumerate(nats):
            colour = "white" if value > 0.6 * top else "black"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7)
        for column in np.flatnonzero(~np.asarray(one.kept, dtype=bool)):
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


@styled
def latents_against(
    mean: Array,
    nuisance_values: Array,
    *,
    weight: Array,
    correlations: Sequence[Measured | None],
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
    drawn, axes = grid(mean.shape[1], width=2.3, height=2.5, columns=5, share=False)
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
        legend_above(drawn, last)
    return drawn


@styled
def intervention(moved: Moved, *, nuisance: str, most: int = MOST) -> Figure:
    """Change of the features that change most, for each shift of the latent (points) and in events (open)."""
    size = np.nanmax(np.abs(np.stack([moved.change, moved.observed])), axis=(0, 1))
    shown = np.argsort(-size)[:most][::-1]
    drawn = figure(6.2, 1.2 + 0.34 * len(shown))
    ax = drawn.subplots()
    rows = np.arange(len(shown))
    offsets = np.linspace(0.28, -0.28, len(moved.shifts))
    for number, shift in enumerate(moved.shifts):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        place = rows + offsets[number]
        kwargs: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "none", "elinewidth": 0.8}
        ax.errorbar(
            moved.change[number, shown],
            place,
            xerr=moved.change_error[number, shown],
            label=f"latent moved by {shift:+g} σ",
            **kwargs,
        )
        ax.errorbar(
            moved.observed[number, shown],
            place,
            xerr=moved.observed_error[number, shown],
            markerfacecolor="white",
            label=f"events, {nuisance} {shift:+g} σ",
            **kwargs,
        )
    ax.axvline(0, color="0.6", linewidth=0.8, zorder=-1)
    ax.set_yticks(rows, [moved.features[k] for k in shown])
    ax.tick_params(axis="y", which="minor", length=0)
    ax.set_xlabel("Change of the feature, in its deviations")
    drawn.legend(loc="outside upper center", ncols=2)
    return drawn
