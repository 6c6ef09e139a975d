"""What named shifts change, from a sculpting histogram with an axis `systematic`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import hist
import numpy as np

from hepdecorr.validation.measures import floor, jsd
from hepdecorr.validation.measures.numbers import Array, Record
from hepdecorr.validation.plots.spectra import require, spectrum
from hepdecorr.validation.plots.systematics import NOMINAL, shifts


@dataclass(frozen=True)
class Shifted(Record):
    """Efficiencies and JSD of one tagger at one frozen threshold, under one shift; NaN where unknown."""

    tagger: str
    shift: str  # 'nominal' for the events as they are
    rejection: float  # what the threshold was chosen for, on events without shift
    background_efficiency: float  # inside the nuisance's range and outside
    signal_efficiency: float
    background_change: float  # relative to nominal
    signal_change: float
    jsd: float  # background, nats
    jsd_change: float  # absolute
    floor: float  # of the JSD, dense limit with effective counts


def shifted(
    filled: hist.Hist[Any], *, tagger: str, labels: Mapping[str, int], rejection: float
) -> list[Shifted]:
    """Nominal and every shift. labels: dataset -> 0 (background) or 1 (signal).

    The shifted events are the nominal ones moved, so that statistical errors hardly touch the changes.
    """
    found: list[Shifted] = []
    for name in [NOMINAL, *shifts(filled)]:
        background, signal = (
            _efficiency(
                filled, tagger, rejection, name, [one for one, label in labels.items() if label == kind]
            )
            for kind in (0, 1)
        )
        divergence, level = _jsd(
            filled, tagger, rejection, name, [one for one, label in labels.items() if label == 0]
        )
        first = found[0] if found else None
        found.append(
            Shifted(
                tagger,
                name,
                rejection,
                background,
                signal,
                _relative(background, first.background_efficiency) if first else 0.0,
                _relative(signal, first.signal_efficiency) if first else 0.0,
                divergence,
                divergence - first.jsd if first else 0.0,
                level,
            )
        )
    return found


def _relative(value: float, nominal: float) -> float:
    return value / nominal - 1 if nominal > 0 else float("nan")


def _efficiency(
    filled: hist.Hist[Any], tagger: str, rejection: float, shift: str, datasets: list[str]
) -> float:
    if not datasets:
        return float("nan")
    before, after = (
        sum(_total(filled, tagger, category, shift, one) for one in datasets)
        for category in ("before", f"pass {rejection:g}")
    )
    return after / before if before > 0 else float("nan")


def _total(filled: hist.Hist[Any], tagger: str, category: str, shift: str, dataset: str) -> float:
    place = {"tagger": tagger, "category": category, "dataset": dataset}
    if "systematic" in filled.axes.name:
        place["systematic"] = shift
    require(filled, **{name: [one] for name, one in place.items()})
    index: Any = place
    row: Any = filled[index]
    return float(row.values(flow=True).sum())


def _jsd(
    filled: hist.Hist[Any], tagger: str, rejection: float, shift: str, datasets: list[str]
) -> tuple[float, float]:
    nan = float("nan")
    if not datasets:
        return nan, nan
    passing, failing = (
        spectrum(filled, tagger=tagger, category=f"{name} {rejection:g}", datasets=datasets, systematic=shift)
        for name in ("pass", "fail")
    )
    n_pass, n_fail = (_effective(one.values, one.variances) for one in (passing, failing))
    if not (n_pass > 0 and n_fail > 0):
        return nan, nan
    level = floor(n_pass, n_fail, bins=len(passing.values))
    return float(jsd(passing.values, failing.values)), level


def _effective(values: Array, variances: Array) -> float:
    squares = float(np.sum(variances))
    return float(np.sum(values)) ** 2 / squares if squares > 0 else 0.0
