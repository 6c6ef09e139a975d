"""Mutual information of latent variables and nuisances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.events import checked, sums
from hepdecorr.validation.measures.numbers import ONE_SIGMA, Array, Indices, Measured, Record


@dataclass(frozen=True)
class InformationGap(Record):
    """Mutual information gap of a representation."""

    mig: Measured
    information: Array  # (latents, nuisances), nats, Miller-Madow bias subtracted
    entropy: Array  # (nuisances,) of the binned nuisance
    bins: int
    events: int
    replicas: int
    seed: int


def mig(
    latent: npt.ArrayLike,
    nuisance: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    bins: int = 20,
    replicas: int = 100,
    seed: int = 0,
) -> InformationGap:
    """How much more one latent tells about a nuisance than any other, over the nuisance's entropy.

    latent: (events, latents), at least two; nuisance: (events,) or (events, nuisances). Mean over the
    nuisances of (I_1st - I_2nd) / H (Chen et al., NeurIPS 2018, eq. 6). Quantile bins on both sides:
    outliers empty equal-width bins. The interval is a Poisson bootstrap.
    """
    z = np.atleast_2d(np.asarray(latent, dtype=np.float64).T)
    v = np.atleast_2d(np.asarray(nuisance, dtype=np.float64).T)
    if len(z) < 2:
        raise InputError("mig: one latent given; a gap needs at least two, (events, latents)")
    named = {f"latent_{i}": row for i, row in enumerate(z)} | {
        f"nuisance_{i}": row for i, row in enumerate(v)
    }
    *columns, w = checked(weight, **named)
    coded = [_quantile_codes(column, bins) for column in columns]
    z_codes, v_codes = coded[: len(z)], coded[len(z) :]
    value, information, entropy = _gap(z_codes, v_codes, w, bins)
    random = np.random.default_rng(seed)
    draws = [_gap(z_codes, v_codes, w * random.poisson(1.0, len(w)), bins)[0] for _ in range(replicas)]
    # About their own mean: a bootstrap of a divergence adds its bias a second time.
    low, high = np.quantile(draws, [0.5 - ONE_SIGMA / 2, 0.5 + ONE_SIGMA / 2]) - np.mean(draws)
    measured = Measured(value, value + float(low), value + float(high), float(np.std(draws)))
    return InformationGap(measured, information, entropy, bins, len(w), replicas, seed)


def _gap(z_codes: list[Indices], v_codes: list[Indices], w: Array, bins: int) -> tuple[float, Array, Array]:
    information = np.array([[_information(z, v, w, bins) for v in v_codes] for z in z_codes])
    entropy = np.array([_entropy(sums(v, w, bins)) for v in v_codes])
    ordered = np.sort(information, axis=0)
    return float(np.mean((ordered[-1] - ordered[-2]) / entropy)), information, entropy


def _information(a: Indices, b: Indices, w: Array, bins: int) -> float:
    table = sums(a * bins + b, w, bins * bins).reshape(bins, bins)
    raw = _entropy(table.sum(axis=0)) + _entropy(table.sum(axis=1)) - _entropy(table)
    # Miller-Madow: independent variables would otherwise share (bins - 1)^2 / 2N nats.
    filled = [np.count_nonzero(table.sum(axis=axis)) - 1 for axis in (0, 1)]
    return float(raw - filled[0] * filled[1] * np.square(w).sum() / w.sum() ** 2 / 2)


def _entropy(contents: Array) -> float:
    p = contents / contents.sum()
    return float(-xlogy(p, p).sum())


def _quantile_codes(values: Array, bins: int) -> Indices:
    edges = np.quantile(values, np.arange(1, bins) / bins)
    return np.asarray(np.searchsorted(edges, values, side="right"), dtype=np.int64)
