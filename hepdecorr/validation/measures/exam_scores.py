"""What nobody can do better on exam scores: the exact posterior of their process, by quadrature.

x = 2 mu + (sigma^2 + 1) v + eps (Context-Aware Variational Autoencoder, 3.1), eps of deviation `noise`.
Given sigma all is Gaussian: with s = sigma^2 + 1 and t = s^2 + noise^2 the K scores of a school have the
covariance t 1 + 4 (a matrix of ones), whose determinant is t^(K-1) (t + 4 K) and whose inverse is
(1 - 4 (ones) / (t + 4 K)) / t.  Over sigma there is a sum on a grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from hepdecorr.validation.measures.codes import Partners, in_groups, of_units
from hepdecorr.validation.measures.numbers import Array, Indices, Measured

GRID = np.linspace(0, 6, 601)  # of |sigma|; the sign does not act


@dataclass(frozen=True)
class Exact:
    """The exact posterior of schools, given all of their scores; `group` numbers them from 0.

    log_likelihood: of each school, nats.  mu and square: means of mu and sigma^2, with their variances, all
    (groups,).  v, v_var: (n,), mean and variance of each student's.
    """

    log_likelihood: Array
    mu: Array
    mu_var: Array
    square: Array
    square_var: Array
    v: Array
    v_var: Array

    @classmethod
    def of(cls, x: Array, group: Indices, *, noise: float) -> Exact:
        """From the scores (n,) of whole schools."""
        groups = int(group.max()) + 1
        count, total = np.bincount(group).astype(np.float64)[:, None], in_groups(x, group, groups)[:, None]
        s = GRID**2 + 1
        t = s**2 + noise**2
        outer = t + 4 * count
        shape = in_groups(x**2, group, groups)[:, None] / t - 4 * total**2 / (t * outer)
        size = count * np.log(2 * np.pi) + (count - 1) * np.log(t) + np.log(outer)
        # Twice the density of sigma, for |sigma|; the ends of a trapezium count half.
        prior = np.log(2 / np.sqrt(2 * np.pi)) - 0.5 * GRID**2 + np.log(GRID[1] - GRID[0])
        prior[[0, -1]] -= np.log(2)
        joint = prior - 0.5 * (size + shape)
        likelihood = logsumexp(joint, axis=1)
        weight = np.exp(joint - likelihood[:, None])
        mu, mu_var = 2 * total / outer, t / outer  # given sigma
        a, b = s / t, 2 * s / t  # E[v|x, mu, sigma] = a x - b mu
        v_given = noise**2 / t + b**2 * mu_var
        mean_a, mean_c = weight @ a, (weight * b * mu).sum(1)
        v = mean_a[group] * x - mean_c[group]
        spread = (
            (weight @ a**2)[group] * x**2
            - 2 * (weight * a * b * mu).sum(1)[group] * x
            + (weight * (b * mu) ** 2).sum(1)[group]
        )
        mean_mu = (weight * mu).sum(1)
        square = weight @ GRID**2
        return cls(
            likelihood,
            mean_mu,
            (weight * (mu_var + mu**2)).sum(1) - mean_mu**2,
            square,
            weight @ GRID**4 - square**2,
            v,
            (weight * v_given).sum(1)[group] + spread - v**2,
        )


def floors(exact: Exact, group: Indices, pairs: Partners, *, seed: int = 0) -> dict[str, Measured]:
    """What the exact posterior comes to, in the figures of code_evaluation, on average over the posterior.

    With means no function of the scores does better, but by chance.  An error with draws from the posterior
    is twice one with its means, since truth and draw are alike.  A translation's variance is that of
    2 mu + s v, with (mu, s) of the target and v of the source, which are independent of each other.
    """
    groups = len(exact.mu)
    count = np.bincount(group).astype(np.float64)
    target = pairs.target[group]
    s = 1 + exact.square[target]
    # The term 4 E v Cov(mu, s) averages out: it changes its sign with the scores of the source.
    error = (
        4 * exact.mu_var[target] + s**2 * exact.v_var + exact.square_var[target] * (exact.v**2 + exact.v_var)
    )
    unit = pairs.unit[group]
    units = int(pairs.unit.max()) + 1
    translation = of_units(in_groups(error, unit, units), np.bincount(unit).astype(np.float64), seed=seed)
    ones = np.ones(groups)
    return {
        "translation": translation.scaled(2),
        "translation_means": translation,
        "u_probe": of_units((1 + exact.mu_var) / 2, ones, seed=seed),
        "v_prediction": of_units(in_groups(exact.v_var, group, groups), count, seed=seed),
        "likelihood": of_units(exact.log_likelihood, count, seed=seed),
    }
