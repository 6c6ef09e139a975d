"""Processes that are known: from true variables of groups and instances to features, without noise.

One of your own is a function in a file, `process: my_process.py:made`, of true group variables (n, t) and
instance variables (n, s), one row an event, in the order of groups.truth; it gives the features (n, f).
"""

from __future__ import annotations

import numpy as np

from hepdecorr.validation.measures.numbers import Array

__all__ = ["exam_scores"]


def exam_scores(group: Array, instance: Array) -> Array:
    """2 mu + (sigma^2 + 1) v, (n, 1), of (mu, sigma) and v (Context-Aware Variational Autoencoder, 3.1)."""
    return np.asarray(2 * group[:, :1] + (group[:, 1:] ** 2 + 1) * instance)
