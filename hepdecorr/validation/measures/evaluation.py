"""Everything there is to say about one tagger and one nuisance on one independent sample."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.audit import Audit, audit
from hepdecorr.validation.measures.compare import ALPHA, holm, verdict
from hepdecorr.validation.measures.dependence import DistanceCorrelation, dcor2
from hepdecorr.validation.measures.divergence import factor
from hepdecorr.validation.measures.efficiency import Profile, Tail, profile
from hepdecorr.validation.measures.events import checked, classes, effective
from hepdecorr.validation.measures.numbers import Measured, Record
from hepdecorr.validation.measures.ranking import (
    Closure,
    Roc,
    SignalEfficiency,
    auc,
    closure,
    rejection_factor,
    roc,
    signal_efficiency,
)
from hepdecorr.validation.measures.sculpting import Sculpting, sculpting

T = TypeVar("T")

logger = logging.getLogger(__name__)

REJECTIONS = (0.5, 0.9, 0.95, 0.99, 0.995)


@dataclass(frozen=True)
class HalfSignal(Record):
    """The literature's working point, 50 % signal efficiency, in both of its units.

    The statistical limit 1/floor is what a tagger without any sculpting reads on this sample. `p_value` tests
    whether 1/JSD differs from it; this one point is a family of its own, so there is nothing to adjust.
    """

    r50: Measured  # 1 / background efficiency
    sculpting: Sculpting | None  # None, and NaN below, where no background event passes
    inverse_jsd_nats: Measured
    inverse_jsd_bits: Measured
    inverse_floor_nats: float
    inverse_floor_bits: float
    inverse_floor_interval_nats: tuple[float, float]  # 68.3 % of what is read without sculpting
    p_value: float
    verdict: str

    @property
    def at_limit(self) -> bool:
        """Whether 1/JSD is consistent with its statistical limit; not so where it could not be measured."""
        return self.p_value > ALPHA


@dataclass(frozen=True)
class Evaluation(Record):
    """The measured figures of one tagger and one nuisance; every JSD carries its floor and its conditions."""

    nuisance: str
    unit: str
    seed: int
    background_events: int
    signal_events: int
    background_effective: float
    signal_effective: float
    weighted: bool
    auc: Measured
    signal_efficiency: tuple[SignalEfficiency, ...]  # one per rejection
    sculpting: tuple[Sculpting, ...]  # one per rejection
    p_holm: tuple[float, ...]  # adjusted over the rejections
    verdicts: tuple[str, ...]
    half_signal: HalfSignal
    dcor2: DistanceCorrelation
    audit: Audit | None  # None where the background is too small for it
    profiles: tuple[Profile, ...]
    closures: tuple[Closure, ...]  # one per frozen threshold given
    roc: Roc

    @property
    def sculpts(self) -> bool:
        """Whether sculpting is resolved at any working point."""
        return min(self.p_holm) <= 0.05

    def at(self, rejection: float) -> tuple[SignalEfficiency, Sculpting, float, str]:
        """Signal efficiency, sculpting, adjusted p-value and verdict at one of the rejections."""
        for columns in zip(self.signal_efficiency, self.sculpting, self.p_holm, self.verdicts, strict=True):
            if abs(columns[0].rejection - rejection) < 1e-9:
                return columns
        asked = ", ".join(f"{point.rejection:g}" for point in self.signal_efficiency)
        raise InputError(f"no working point at rejection {rejection:g}; measured were {asked}")


def evaluate(
    logit: npt.ArrayLike,
    label: npt.ArrayLike,
    nuisance: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    range: tuple[float, float],  # noqa: A002  the name numpy and hist use
    rejections: Sequence[float] = REJECTIONS,
    bins: int = 50,
    log_base: str = "e",
    outside: str = "exclude",
    name: str = "nuisance",
    unit: str = "",
    thresholds: Mapping[float, float] | None = None,
    profile_bins: int = 20,
    permutations: int = 2000,
    replicas: int = 1000,
    dcor_permutations: int = 500,
    seed: int = 0,
) -> Evaluation:
    """Measure one tagger on events it was neither trained nor tuned on.

    logit, label (0 background, 1 signal), nuisance (in the unit of `range`), weight: (events,). Sculpting,
    dCor^2, audit and profiles concern the background only. thresholds: rejection -> threshold chosen on
    another sample (a card's working points), to be tested for closure. InputError for unusable input.
    """
    score, y, z, w = checked(weight, logit=logit, label=label, nuisance=nuisance)
    background, signal = classes(y)
    given = None if weight is None else w
    b_weight = None if weight is None else w[background]
    b_score, b_nuisance = score[background], z[background]
    if not rejections:
        raise InputError("evaluate: no rejections asked for; give some, for example (0.9, 0.95, 0.99)")
    measure = partial(
        sculpting,
        b_score,
        b_nuisance,
        range=range,
        weight=b_weight,
        bins=bins,
        log_base=log_base,
        outside=outside,
        permutations=permutations,
        replicas=replicas,
    )
    points = tuple(
        signal_efficiency(score, y, rejection=rejection, weight=given, seed=seed) for rejection in rejections
    )
    sculpted = tuple(
        # Another seed for each: permutations shared by the working points would tie their p-values.
        measure(rejection=rejection, seed=seed + 1000 * number)
        for number, rejection in enumerate(rejections)
    )
    adjusted = holm([one.p_value for one in sculpted])
    half_cut = Tail(score[signal], w[signal]).threshold(0.5)
    half = or_none(
        partial(measure, threshold=half_cut, seed=seed + 999), "sculpting at 50 % signal efficiency"
    )
    return Evaluation(
        nuisance=name,
        unit=unit,
        seed=seed,
        background_events=int(background.sum()),
        signal_events=int(signal.sum()),
        background_effective=effective(w[background]),
        signal_effective=effective(w[signal]),
        weighted=weight is not None,
        auc=auc(score, y, weight=given),
        signal_efficiency=points,
        sculpting=sculpted,
        p_holm=tuple(adjusted),
        verdicts=tuple(verdict(one, p) for one, p in zip(sculpted, adjusted, strict=True)),
        half_signal=_half_signal(rejection_factor(score, y, weight=given, seed=seed), half),
        dcor2=dcor2(b_score, b_nuisance, weight=b_weight, permutations=dcor_permutations, seed=seed),
        audit=or_none(partial(audit, b_score, b_nuisance, weight=b_weight, seed=seed), "independence audit"),
        profiles=tuple(
            profile(
                b_score,
                b_nuisance,
                threshold=one.threshold,
                rejection=one.rejection,
                bins=profile_bins,
                range=range,
                weight=b_weight,
            )
            for one in sculpted
        ),
        closures=tuple(
            closure(b_score, threshold=cut, rejection=rejection, weight=b_weight)
            for rejection, cut in sorted((thresholds or {}).items())
        ),
        roc=roc(score, y, weight=given),
    )


def _half_signal(r50: Measured, half: Sculpting | None) -> HalfSignal:
    if half is None:
        nan = math.nan
        nothing = Measured(nan, nan, nan)
        return HalfSignal(r50, None, nothing, nothing, nan, nan, (nan, nan), nan, "no background passes")
    to_nats, bits = 1 / factor(half.log_base), factor("2")
    jsd, floor = half.jsd.scaled(to_nats), half.floor * to_nats
    low, high = (_inverse(end * to_nats) for end in reversed(half.floor_interval))
    return HalfSignal(
        r50=r50,
        sculpting=half,
        inverse_jsd_nats=jsd.inverse(),
        inverse_jsd_bits=jsd.scaled(bits).inverse(),
        inverse_floor_nats=_inverse(floor),
        inverse_floor_bits=_inverse(floor * bits),
        inverse_floor_interval_nats=(low, high),
        p_value=half.p_value,
        verdict=verdict(half, half.p_value),
    )


def _inverse(value: float) -> float:
    return 1 / value if value > 0 else math.inf


def or_none(measure: Callable[[], T], title: str) -> T | None:
    """A measure that too few events may leave without a value; the log says why."""
    try:
        return measure()
    except InputError as error:
        logger.warning("No %s: %s", title, error)
        return None
