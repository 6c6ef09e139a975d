"""What named shifts change, from a sculpting histogram with an axis `systematic`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import hist
import numpy as np

from hepdecorr.evaluation.metrics import jsd, jsd_floor
from hepdecorr.evaluation.plots.spectra import NOMINAL, require_categories, select_spectrum, systematic_names
from hepdecorr.stats.results import Array, ResultRecord


@dataclass(frozen=True)
class SystematicEffect(ResultRecord):
    """Efficiencies and JSD of one tagger at one frozen threshold, under one shift; NaN where unknown."""

    tagger: str
    systematic: str  # 'nominal' for the events as they are
    rejection: float  # what the threshold was chosen for, on events without shift
    background_efficiency: float  # inside the nuisance's range and outside
    signal_efficiency: float
    background_change: float  # relative to nominal
    signal_change: float
    jsd: float  # background, nats
    jsd_change: float  # absolute
    floor: float  # of the JSD, dense limit with effective counts


def measure_systematics(
    histogram: hist.Hist[Any], *, tagger: str, labels: Mapping[str, int], rejection: float
) -> list[SystematicEffect]:
    """Nominal and every shift. labels: dataset -> 0 (background) or 1 (signal).

    The shifted events are the nominal ones moved, so that statistical errors hardly touch the changes.
    """
    found: list[SystematicEffect] = []
    for name in [NOMINAL, *systematic_names(histogram)]:
        background, signal = (
            _pass_efficiency(
                histogram, tagger, rejection, name, [one for one, label in labels.items() if label == kind]
            )
            for kind in (0, 1)
        )
        divergence, level = _jsd_with_floor(
            histogram, tagger, rejection, name, [one for one, label in labels.items() if label == 0]
        )
        first = found[0] if found else None
        found.append(
            SystematicEffect(
                tagger,
                name,
                rejection,
                background,
                signal,
                _relative_change(background, first.background_efficiency) if first else 0.0,
                _relative_change(signal, first.signal_efficiency) if first else 0.0,
                divergence,
                divergence - first.jsd if first else 0.0,
                level,
            )
        )
    return found


def _relative_change(value: float, nominal: float) -> float:
    return value / nominal - 1 if nominal > 0 else float("nan")


def _pass_efficiency(
    histogram: hist.Hist[Any], tagger: str, rejection: float, systematic: str, datasets: list[str]
) -> float:
    if not datasets:
        return float("nan")
    before, after = (
        sum(_sum_of_weights(histogram, tagger, category, systematic, one) for one in datasets)
        for category in ("before", f"pass {rejection:g}")
    )
    return after / before if before > 0 else float("nan")


def _sum_of_weights(
    histogram: hist.Hist[Any], tagger: str, category: str, systematic: str, dataset: str
) -> float:
    place = {"tagger": tagger, "category": category, "dataset": dataset}
    if "systematic" in histogram.axes.name:
        place["systematic"] = systematic
    require_categories(histogram, **{name: [one] for name, one in place.items()})
    index: Any = place
    row: Any = histogram[index]
    return float(row.values(flow=True).sum())


def _jsd_with_floor(
    histogram: hist.Hist[Any], tagger: str, rejection: float, systematic: str, datasets: list[str]
) -> tuple[float, float]:
    nan = float("nan")
    if not datasets:
        return nan, nan
    passing, failing = (
        select_spectrum(
            histogram,
            tagger=tagger,
            category=f"{name} {rejection:g}",
            datasets=datasets,
            systematic=systematic,
        )
        for name in ("pass", "fail")
    )
    n_pass, n_fail = (_effective_count(one.values, one.variances) for one in (passing, failing))
    if not (n_pass > 0 and n_fail > 0):
        return nan, nan
    level = jsd_floor(n_pass, n_fail, bins=len(passing.values))
    return float(jsd(passing.values, failing.values)), level


def _effective_count(values: Array, variances: Array) -> float:
    squares = float(np.sum(variances))
    return float(np.sum(values)) ** 2 / squares if squares > 0 else 0.0
