"""Jensen-Shannon divergence of binned spectra, and what it comes to when nothing is there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, xlogy

from hepdecorr.errors import InputError

LOG_BASES = {"e": 1.0, "2": 1.0 / math.log(2.0)}  # nats and bits: the factor from nats


def jsd(passing: npt.ArrayLike, failing: npt.ArrayLike, *, log_base: str = "e") -> Any:
    """Jensen-Shannon divergence of two spectra with the same bins.

    passing, failing: contents >= 0, (bins,) or (..., bins), normalised here; at most ln 2 nats = 1 bit.
    J = 1/2 KL(p||m) + 1/2 KL(f||m), m = (p + f) / 2 (Lin, IEEE Trans. Inf. Theory 37 (1991) 145, eq. 4.1).
    A float for one-dimensional input, else an array. Never quote it without its floor: see `sculpting`.
    """
    p, f = np.asarray(passing, dtype=np.float64), np.asarray(failing, dtype=np.float64)
    p_sum, f_sum = p.sum(axis=-1, keepdims=True), f.sum(axis=-1, keepdims=True)
    if np.any(p_sum <= 0) or np.any(f_sum <= 0):
        raise InputError(
            "jsd: one of the two spectra is empty; loosen the cut or widen the histogram's range"
        )
    p, f = p / p_sum, f / f_sum
    m = (p + f) / 2
    terms = (xlogy(p, p) + xlogy(f, f)) / 2 - xlogy(m, m)
    value = np.maximum(terms.sum(axis=-1), 0.0) * factor(log_base)
    return float(value) if value.ndim == 0 else value


def floor(n_pass: float, n_fail: float, *, bins: int, log_base: str = "e") -> float:
    """E[JSD] of two samples of one spectrum, (bins - 1) / 8 (1/n_pass + 1/n_fail) nats: the dense limit.

    Effective counts when weighted. It is 1/8 of Pearson's chi-squared; a bin with fewer than about five
    expected entries contributes less than its share, which `expected_jsd` accounts for.
    """
    return (bins - 1) / 8 * (1 / n_pass + 1 / n_fail) * factor(log_base)


def expected_jsd(counts: npt.ArrayLike, n_pass: int, *, log_base: str = "e") -> float:
    """E[JSD] when n_pass of the counted events, chosen at random, pass: the exact floor without weights.

    counts: integers (bins,), pass and fail together. A JSD is a sum over bins, and each bin's number of
    passing events is hypergeometric, so the mean over all permutations is a finite sum: sparsely filled and
    empty bins are treated as they are.
    """
    total = np.asarray(counts, dtype=np.float64)
    n = total.sum()
    n_fail = n - n_pass
    if not 0 < n_pass < n:
        raise InputError(f"floor: {n_pass:g} of {n:g} events pass; both spectra need events")
    share = n_pass / n
    width = 12 * np.sqrt(total * share * (1 - share)) + 12
    low = np.floor(np.maximum(np.maximum(total * share - width, total - n_fail), 0))
    high = np.ceil(np.minimum(np.minimum(total * share + width, total), n_pass))
    steps = np.arange(int((high - low).max()) + 1)
    passed = low[:, None] + steps
    valid = passed <= high[:, None]
    passed = np.where(valid, passed, low[:, None])
    failed = total[:, None] - passed
    log_weight = (
        _log_choose(total[:, None], passed)
        + _log_choose((n - total)[:, None], n_pass - passed)
        - _log_choose(n, np.float64(n_pass))
    )
    weight = np.where(valid, np.exp(log_weight), 0.0)
    p, f = passed / n_pass, failed / n_fail
    m = (p + f) / 2
    terms = (xlogy(p, p) + xlogy(f, f)) / 2 - xlogy(m, m)
    return float(np.sum(weight * terms)) * factor(log_base)


def _log_choose(n: Any, k: Any) -> Any:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def factor(log_base: str) -> float:
    """The factor from nats to the base 'e' or '2'; InputError for another."""
    if log_base not in LOG_BASES:
        raise InputError(f"log_base {log_base!r}: use 'e' (nats) or '2' (bits)")
    return LOG_BASES[log_base]
