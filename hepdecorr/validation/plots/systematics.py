"""What named shifts of the events do to the spectrum that a cut leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hist
import numpy as np
from matplotlib.figure import Figure

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.numbers import Array
from hepdecorr.validation.plots.spectra import CLASSES, Spectrum, spectrum
from hepdecorr.validation.plots.style import BEFORE, axis_label, figure, look, steps, styled

NOMINAL = "nominal"
_JOINED = 2  # bins joined in the ratio
_UNCERTAIN = 0.4  # relative error beyond which a ratio is not drawn


def shifts(filled: hist.Hist[Any]) -> list[str]:
    """The shifts of a sculpting histogram, without the nominal one; none without an axis `systematic`."""
    if "systematic" not in filled.axes.name:
        return []
    return [name for name in filled.axes["systematic"] if name != NOMINAL]


@styled
def shifted_spectra(
    filled: hist.Hist[Any],
    *,
    tagger: str,
    labels: Mapping[str, int],
    rejection: float,
    names: Sequence[str] | None = None,
    title: str = "",
    nuisance: str = "",
    unit: str = "",
) -> Figure:
    """The spectra after one cut, nominal and shifted, with shifted / nominal below; background and signal.

    filled: axes dataset, systematic, tagger, category and the nuisance. The content is not normalised: a
    shift of the efficiency shows as well as one of the shape. Band: the nominal statistical error; the
    shifted events are the same ones, so that shifts far smaller than it may mean something.
    """
    chosen = shifts(filled) if names is None else list(names)
    if not chosen:
        raise InputError("shifted_spectra: the histogram has no shifts; evaluate with 'shifts' in the config")
    present = [label for label in (0, 1) if label in labels.values()]
    drawn = figure(4.6 * len(present) + 0.2, 5.0)
    axes = drawn.subplots(2, len(present), squeeze=False, sharex=True, height_ratios=(2.0, 1.2))
    for (upper, lower), label in zip(axes.T, present, strict=True):
        settings: dict[str, Any] = {"tagger": tagger, "category": f"pass {rejection:g}"}
        settings["datasets"] = [name for name, value in labels.items() if value == label]
        nominal = spectrum(filled, **settings)
        whole = max(float(nominal.values.sum()), np.finfo(float).tiny)
        upper.stairs(nominal.values / whole, nominal.edges, fill=True, color=BEFORE, label="nominal")
        coarse = nominal.rebinned(_JOINED)
        error = _errors(coarse)
        reach = 0.15
        lower.stairs(1 + error, coarse.edges, baseline=1 - error, fill=True, color="0.85")
        for number, name in enumerate(chosen):
            shifted = spectrum(filled, systematic=name, **settings)
            steps(upper, shifted.edges, shifted.values / whole, label=name, **look(number))
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = shifted.rebinned(_JOINED).values / coarse.values
            ratio = np.where(np.isfinite(error), ratio, np.nan)
            steps(lower, coarse.edges, ratio, **look(number))
            reach = max(reach, _reach(ratio, error))
        lower.axhline(1, color="0.4", linewidth=0.8)
        lower.set_ylim(1 - min(reach, 0.95), 1 + reach)
        lower.set_ylabel("shifted / nominal", loc="center")
        lower.set_xlabel(axis_label(nuisance or filled.axes[-1].label, unit))
        lower.set_xlim(nominal.edges[0], nominal.edges[-1])
        upper.set_ylim(0, 1.4 * max(float(nominal.values.max()) / whole, upper.get_ylim()[1] / 1.05))
        upper.set_title(f"{CLASSES[label]}{', ' + title if title else ''}", loc="left")
        upper.legend(loc="upper right", ncols=2 if len(chosen) > 3 else 1)
    axes[0, 0].set_ylabel(f"After {100 * rejection:g} % rejection / nominal sum")
    drawn.align_ylabels()
    return drawn


def _errors(nominal: Spectrum) -> Array:
    """Relative errors; NaN where they are so large that a ratio says nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(nominal.variances) / nominal.values
    return np.where(error < _UNCERTAIN, error, np.nan)


def _reach(ratio: Array, error: Array) -> float:
    """How far the axis must reach for the bins that are well known, at most to 0 and 2."""
    sure = np.isfinite(ratio) & (error < _UNCERTAIN / 2)
    return float(min(1.15 * np.max(np.abs(ratio[sure] - 1) + error[sure]), 1.0)) if sure.any() else 0.0
