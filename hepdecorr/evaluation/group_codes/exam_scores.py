"""What nobody can do better on exam scores: the exact posterior of their process, by quadrature.

x = 2 mu + (sigma^2 + 1) v + eps (Context-Aware Variational Autoencoder, 3.1), eps of deviation `noise`.
Given sigma all is Gaussian: with s = sigma^2 + 1 and t = s^2 + noise^2 the K scores of a school have the
covariance t 1 + 4 (a matrix of ones), whose determinant is t^(K-1) (t + 4 K) and whose inverse is
(1 - 4 (ones) / (t + 4 K)) / t.  Over sigma there is a sum on a grid.

Processes that are known: from true variables of groups and instances to features, without noise.

One of your own is a function in a file, `forward_model: my_process.py:made`, of true group variables (n, t)
and instance variables (n, s), one row an event, in the order of groups.truth; it gives the features (n, f).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from hepdecorr.evaluation.group_codes.inference import TranslationPairs, bootstrap_ratio, sum_by_group
from hepdecorr.stats.results import Array, Estimate, Indices

__all__ = ["exam_scores"]


SIGMA_GRID = np.linspace(0, 6, 601)  # of |sigma|; the sign does not act


@dataclass(frozen=True)
class ExactPosterior:
    """The exact posterior of schools, given all of their scores; `group` numbers them from 0.

    log_likelihood: of each school, nats.  mu and square: means of mu and sigma^2, with their variances, all
    (groups,).  v, v_var: (n,), mean and variance of each student's.
    """

    log_likelihood: Array
    mu: Array
    mu_var: Array
    sigma_squared: Array
    sigma_squared_var: Array
    v: Array
    v_var: Array

    @classmethod
    def from_scores(cls, x: Array, group_index: Indices, *, noise: float) -> ExactPosterior:
        """From the scores (n,) of whole schools."""
        groups = int(group_index.max()) + 1
        count, total = (
            np.bincount(group_index).astype(np.float64)[:, None],
            sum_by_group(x, group_index, groups)[:, None],
        )
        s = SIGMA_GRID**2 + 1
        t = s**2 + noise**2
        outer = t + 4 * count
        shape = sum_by_group(x**2, group_index, groups)[:, None] / t - 4 * total**2 / (t * outer)
        size = count * np.log(2 * np.pi) + (count - 1) * np.log(t) + np.log(outer)
        # Twice the density of sigma, for |sigma|; the ends of a trapezium count half.
        prior = np.log(2 / np.sqrt(2 * np.pi)) - 0.5 * SIGMA_GRID**2 + np.log(SIGMA_GRID[1] - SIGMA_GRID[0])
        prior[[0, -1]] -= np.log(2)
        joint = prior - 0.5 * (size + shape)
        likelihood = logsumexp(joint, axis=1)
        weight = np.exp(joint - likelihood[:, None])
        mu, mu_var = 2 * total / outer, t / outer  # given sigma
        a, b = s / t, 2 * s / t  # E[v|x, mu, sigma] = a x - b mu
        v_given = noise**2 / t + b**2 * mu_var
        mean_a, mean_c = weight @ a, (weight * b * mu).sum(1)
        v = mean_a[group_index] * x - mean_c[group_index]
        spread = (
            (weight @ a**2)[group_index] * x**2
            - 2 * (weight * a * b * mu).sum(1)[group_index] * x
            + (weight * (b * mu) ** 2).sum(1)[group_index]
        )
        mean_mu = (weight * mu).sum(1)
        square = weight @ SIGMA_GRID**2
        return cls(
            likelihood,
            mean_mu,
            (weight * (mu_var + mu**2)).sum(1) - mean_mu**2,
            square,
            weight @ SIGMA_GRID**4 - square**2,
            v,
            (weight * v_given).sum(1)[group_index] + spread - v**2,
        )


def exact_posterior_metrics(
    posterior: ExactPosterior, group_index: Indices, pairs: TranslationPairs, *, seed: int = 0
) -> dict[str, Estimate]:
    """What the exact posterior comes to, in the figures of code_evaluation, on average over the posterior.

    With means no function of the scores does better, but by chance.  An error with draws from the posterior
    is twice one with its means, since truth and draw are alike.  A translation's variance is that of
    2 mu + s v, with (mu, s) of the target and v of the source, which are independent of each other.
    """
    groups = len(posterior.mu)
    count = np.bincount(group_index).astype(np.float64)
    target = pairs.target_group[group_index]
    s = 1 + posterior.sigma_squared[target]
    # The term 4 E v Cov(mu, s) averages out: it changes its sign with the scores of the source.
    error = (
        4 * posterior.mu_var[target]
        + s**2 * posterior.v_var
        + posterior.sigma_squared_var[target] * (posterior.v**2 + posterior.v_var)
    )
    unit = pairs.bootstrap_unit[group_index]
    units = int(pairs.bootstrap_unit.max()) + 1
    translation = bootstrap_ratio(
        sum_by_group(error, unit, units), np.bincount(unit).astype(np.float64), seed=seed
    )
    ones = np.ones(groups)
    return {
        "translation": translation.scaled(2),
        "translation_means": translation,
        "u_probe": bootstrap_ratio((1 + posterior.mu_var) / 2, ones, seed=seed),
        "v_prediction": bootstrap_ratio(sum_by_group(posterior.v_var, group_index, groups), count, seed=seed),
        "likelihood": bootstrap_ratio(posterior.log_likelihood, count, seed=seed),
    }


def exam_scores(group: Array, instance: Array) -> Array:
    """2 mu + (sigma^2 + 1) v, (n, 1), of (mu, sigma) and v (Context-Aware Variational Autoencoder, 3.1)."""
    return np.asarray(2 * group[:, :1] + (group[:, 1:] ** 2 + 1) * instance)
