"""How likely held-out groups are: the evidence lower bound, and an importance-weighted one that is closer.

p(x) = E_{p(u)} prod_k E_{p(v_k)} p(x_k|u, v_k) of a group (Context-Aware Variational Autoencoder, 2), with
unit normal priors and p(x|u, v) = N(decode(u, v), variance).
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.codes import Inferred, Normal, in_groups, of_units
from hepdecorr.validation.measures.numbers import Array, Indices, Measured

DRAWS_OF_U, DRAWS_OF_V = 64, 8
MOST = 256  # groups whose likelihood is estimated
ROWS = 250_000  # that are decoded at once


def elbo(one: Inferred, *, samples: int = 2, seed: int = 0) -> Measured:
    """Evidence lower bound, nats an event: E_q log p(x|u, v) - KL[q(v|x, u)] - KL[q(u|x)] (2.1).

    The divergences are exact, given u; u and v are drawn `samples` times.
    """
    random = np.random.default_rng(seed)
    bound = np.zeros(one.groups)
    for _ in range(samples):
        u = one.code.draw(random)
        posterior = one.instances(u)
        fit = _log_likelihood(one, one.x, u[one.group], posterior.draw(random))
        bound += in_groups(fit - posterior.divergence(), one.group, one.groups)
    return of_units(bound / samples - one.code.divergence(), one.counts, seed=seed)


def likelihood(
    one: Inferred,
    *,
    groups: int = MOST,
    draws_of_u: int = DRAWS_OF_U,
    draws_of_v: int = DRAWS_OF_V,
    seed: int = 0,
) -> Measured:
    """Importance-weighted log-likelihood of whole groups, nats an event, of at most so many groups.

    Burda, Grosse, Salakhutdinov, 1509.00519, eq. 8, with u drawn for the group as a whole, and for each u the
    factor of each event estimated by itself:
    log 1/L sum_l p(u_l)/q(u_l|x) prod_k 1/M sum_m p(x_k|u_l, v_m) p(v_m)/q(v_m|x_k, u_l).  The average over
    m is right for any u, and independent between events, so that what stands within the logarithm is p(x) on
    average: the whole is a lower bound, and closer than the ELBO.
    """
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(one.groups)[:groups])
    found = np.array([group_likelihoods(one, chosen, draws_of_u, draws_of_v, random)]).reshape(-1)
    return of_units(found, one.counts[chosen], seed=seed)


def group_likelihoods(
    one: Inferred, chosen: Indices, draws_of_u: int, draws_of_v: int, random: np.random.Generator
) -> Array:
    """Importance-weighted log-likelihood of each of the chosen groups, which are in order, nats."""
    place = np.full(one.groups, -1)
    place[chosen] = np.arange(len(chosen))
    events = np.flatnonzero(place[one.group] >= 0)
    group = place[one.group[events]]
    code = one.code.take(chosen)
    at_once = max(1, ROWS // max(1, len(events) * draws_of_v))
    weights = []
    for first in range(0, draws_of_u, at_once):
        size = min(at_once, draws_of_u - first)
        weights.append(_weights(one, events, group, code, (size, draws_of_v), random))
    return np.asarray(logsumexp(np.concatenate(weights), axis=0) - np.log(draws_of_u))


def _weights(
    one: Inferred,
    events: Indices,
    group: Indices,
    code: Normal,
    draws: tuple[int, int],
    random: np.random.Generator,
) -> Array:
    """Logarithm of each weight, (draws of u, groups)."""
    of_u, of_v = draws
    groups = len(code.mean)
    several = Normal(*(np.tile(part, (of_u, 1)) for part in code))
    u = several.draw(random)
    prior = Normal(np.zeros_like(u), np.zeros_like(u))
    outer = prior.log_density(u) - several.log_density(u)
    # Rows are events within draws of u.
    owner = (np.arange(of_u)[:, None] * groups + group).reshape(-1)
    rows = np.tile(events, of_u)
    posterior = one.encoded(rows, u[owner])
    inner = np.empty((of_v, len(rows)))
    for m in range(of_v):
        v = posterior.draw(random)
        unit = Normal(np.zeros_like(v), np.zeros_like(v))
        inner[m] = _log_likelihood(one, one.x[rows], u[owner], v)
        inner[m] += unit.log_density(v) - posterior.log_density(v)
    of_events = logsumexp(inner, axis=0) - np.log(of_v)
    return (outer + in_groups(of_events, owner, of_u * groups)).reshape(of_u, groups)


def _log_likelihood(one: Inferred, x: Array, u: Array, v: Array) -> Array:
    """log p(x|u, v) of each row."""
    if one.by_class:
        raise InputError("a likelihood takes one prior for all events; this tagger has one for each class")
    if one.variance is None:
        raise InputError(
            "a likelihood needs the variance of p(x|u, v), which this tagger's card does not tell"
        )
    mean = one.decoded(u, v)
    return Normal(mean, np.broadcast_to(np.log(one.variance), mean.shape)).log_density(x)
