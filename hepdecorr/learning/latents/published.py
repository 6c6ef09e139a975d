"""The published representations: each gives the terms that make it up.

YAML names them in `representation: {type: BetaTCVAE, beta: 6, latents: 10}`; a representation of other terms
lists them, `representation: {terms: [...]}`.  alignment: strength lambda_s of the supervised alignment R_s
(Tan, Urquijo 2020, eq. 6) in the given form, 0 for none: the latents that know the nuisance are then to be
found, `excise: found`.  start, ramp: fractions of the training after which the term that matters sets in, and
over which it then grows to the full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Terms = list[dict[str, Any]]

__all__ = ["AnnealedVAE", "BetaTCVAE", "BetaTCVAESensitive", "BetaVAE", "FactorVAE"]


def BetaVAE(  # noqa: N802  the names under which they were published
    *, beta: float = 4.0, alignment: float = 0.0, form: str = "probit", start: float = 0.0, ramp: float = 0.0
) -> Terms:
    """beta x KL (Higgins et al., ICLR 2017, eq. 4)."""
    return [{"type": "KL", "beta": beta, "start": start, "ramp": ramp}, *_aligned(alignment, form)]


def AnnealedVAE(  # noqa: N802
    *,
    gamma: float = 100.0,
    capacity: float = 25.0,
    ramp: float = 0.5,
    alignment: float = 0.0,
    form: str = "probit",
) -> Terms:
    """gamma |KL - C|, with C from 0 to `capacity` nats (Burgess et al. 1804.03599, eq. 8)."""
    held = {"type": "Capacity", "gamma": gamma, "capacity": capacity, "ramp": ramp}
    return [held, *_aligned(alignment, form)]


def FactorVAE(  # noqa: N802
    *,
    gamma: float = 10.0,
    alignment: float = 20.0,
    form: str = "probit",
    start: float = 1 / 12,
    ramp: float = 1 / 6,
    critic: Mapping[str, Any] | None = None,
) -> Terms:
    """KL + gamma x total correlation, by a critic that tells z from z shuffled (Kim, Mnih 1802.05983, eq. 2).

    critic: arguments of the estimator Ratio.
    """
    independence = {
        "type": "TotalCorrelation",
        "of": "all",
        "given": "all",
        "beta": gamma,
        "estimator": {"type": "Ratio", **(critic or {})},
        "start": start,
        "ramp": ramp,
    }
    return [{"type": "KL"}, independence, *_aligned(alignment, form)]


def BetaTCVAE(  # noqa: N802
    *,
    beta: float = 6.0,
    alignment: float = 20.0,
    form: str = "probit",
    start: float = 0.0,
    ramp: float = 0.25,
) -> Terms:
    """I(x; z) + beta x total correlation + KL of each dimension (Chen et al. 1802.04942, eq. 4)."""
    taken_apart = {"type": "Decomposition", "of": "all", "beta": beta, "start": start, "ramp": ramp}
    return [taken_apart, *_aligned(alignment, form)]


def BetaTCVAESensitive(  # noqa: N802
    *,
    beta: float | None = None,
    estimator: str | Mapping[str, Any] = "Stratified",
    alpha: float = 1.0,
    gamma: float = 1.0,
    delta: float = 1.0,
    alignment: float = 20.0,
    form: str = "probit",
    start: float = 1 / 12,
    ramp: float = 1 / 6,
) -> Terms:
    """The sensitive latents alone independent of the others (Tan, Urquijo 2020, 'Only disentangle ...').

    estimator of their total correlation: 'Stratified', as published, with the factors alpha, beta (default
    6), gamma and delta; or Ratio, Conditional (default beta 400) or Distance of TotalCorrelation, on
    background and beside a plain KL, since the published one saturates in more than a few dimensions.
    """
    name = estimator if isinstance(estimator, str) else estimator.get("type")
    grown = {"start": start, "ramp": ramp}
    if name == "Stratified":
        factors = {"alpha": alpha, "beta": 6.0 if beta is None else beta, "gamma": gamma, "delta": delta}
        return [{"type": "Decomposition", "of": "sensitive", **factors, **grown}, *_aligned(alignment, form)]
    strength = (400.0 if name == "Conditional" else 40.0) if beta is None else beta
    independence = {"type": "TotalCorrelation", "estimator": estimator, "beta": strength, **grown}
    return [{"type": "KL"}, independence, *_aligned(alignment, form)]


def _aligned(strength: float, form: str) -> Terms:
    return [{"type": "SupervisedAlignment", "strength": strength, "form": form}] if strength else []
