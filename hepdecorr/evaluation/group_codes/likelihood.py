"""How likely held-out groups are: the evidence lower bound, and an importance-weighted one that is closer.

p(x) = E_{p(u)} prod_k E_{p(v_k)} p(x_k|u, v_k) of a group (Context-Aware Variational Autoencoder, 2), with
unit normal priors and p(x|u, v) = N(decode(u, v), variance).
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from hepdecorr.errors import InputError
from hepdecorr.evaluation.group_codes.inference import (
    CodeInference,
    DiagonalNormal,
    bootstrap_ratio,
    sum_by_group,
)
from hepdecorr.stats.results import Array, Estimate, Indices

NUM_GROUP_DRAWS, NUM_INSTANCE_DRAWS = 64, 8
MAX_GROUPS = 256  # groups whose likelihood is estimated
MAX_DECODED_ROWS = 250_000  # that are decoded at once


def elbo(inference: CodeInference, *, num_samples: int = 2, seed: int = 0) -> Estimate:
    """Evidence lower bound, nats an event: E_q log p(x|u, v) - KL[q(v|x, u)] - KL[q(u|x)] (2.1).

    The divergences are exact, given u; u and v are drawn `samples` times.
    """
    random = np.random.default_rng(seed)
    bound = np.zeros(inference.num_groups)
    for _ in range(num_samples):
        u = inference.group_posterior.sample(random)
        posterior = inference.infer_instances(u)
        fit = _log_likelihood(inference, inference.x, u[inference.group_index], posterior.sample(random))
        bound += sum_by_group(
            fit - posterior.kl_to_standard_normal(), inference.group_index, inference.num_groups
        )
    return bootstrap_ratio(
        bound / num_samples - inference.group_posterior.kl_to_standard_normal(),
        inference.group_sizes,
        seed=seed,
    )


def importance_weighted_likelihood(
    inference: CodeInference,
    *,
    max_groups: int = MAX_GROUPS,
    num_group_draws: int = NUM_GROUP_DRAWS,
    num_instance_draws: int = NUM_INSTANCE_DRAWS,
    seed: int = 0,
) -> Estimate:
    """Importance-weighted log-likelihood of whole groups, nats an event, of at most so many groups.

    Burda, Grosse, Salakhutdinov, 1509.00519, eq. 8, with u drawn for the group as a whole, and for each u the
    factor of each event estimated by itself:
    log 1/L sum_l p(u_l)/q(u_l|x) prod_k 1/M sum_m p(x_k|u_l, v_m) p(v_m)/q(v_m|x_k, u_l).  The average over
    m is right for any u, and independent between events, so that what stands within the logarithm is p(x) on
    average: the whole is a lower bound, and closer than the ELBO.
    """
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(inference.num_groups)[:max_groups])
    found = np.array(
        [group_log_likelihoods(inference, chosen, num_group_draws, num_instance_draws, random)]
    ).reshape(-1)
    return bootstrap_ratio(found, inference.group_sizes[chosen], seed=seed)


def group_log_likelihoods(
    inference: CodeInference,
    selected_groups: Indices,
    num_group_draws: int,
    num_instance_draws: int,
    random: np.random.Generator,
) -> Array:
    """Importance-weighted log-likelihood of each of the chosen groups, which are in order, nats."""
    place = np.full(inference.num_groups, -1)
    place[selected_groups] = np.arange(len(selected_groups))
    events = np.flatnonzero(place[inference.group_index] >= 0)
    group = place[inference.group_index[events]]
    code = inference.group_posterior.take(selected_groups)
    at_once = max(1, MAX_DECODED_ROWS // max(1, len(events) * num_instance_draws))
    weights = []
    for first in range(0, num_group_draws, at_once):
        size = min(at_once, num_group_draws - first)
        weights.append(
            _log_importance_weights(inference, events, group, code, (size, num_instance_draws), random)
        )
    return np.asarray(logsumexp(np.concatenate(weights), axis=0) - np.log(num_group_draws))


def _log_importance_weights(
    inference: CodeInference,
    events: Indices,
    group_index: Indices,
    group_posterior: DiagonalNormal,
    num_draws: tuple[int, int],
    random: np.random.Generator,
) -> Array:
    """Logarithm of each weight, (draws of u, groups)."""
    of_u, of_v = num_draws
    groups = len(group_posterior.mean)
    several = DiagonalNormal(*(np.tile(part, (of_u, 1)) for part in group_posterior))
    u = several.sample(random)
    prior = DiagonalNormal(np.zeros_like(u), np.zeros_like(u))
    outer = prior.log_prob(u) - several.log_prob(u)
    # Rows are events within draws of u.
    owner = (np.arange(of_u)[:, None] * groups + group_index).reshape(-1)
    rows = np.tile(events, of_u)
    posterior = inference.encode_events(rows, u[owner])
    inner = np.empty((of_v, len(rows)))
    for m in range(of_v):
        v = posterior.sample(random)
        unit = DiagonalNormal(np.zeros_like(v), np.zeros_like(v))
        inner[m] = _log_likelihood(inference, inference.x[rows], u[owner], v)
        inner[m] += unit.log_prob(v) - posterior.log_prob(v)
    of_events = logsumexp(inner, axis=0) - np.log(of_v)
    return (outer + sum_by_group(of_events, owner, of_u * groups)).reshape(of_u, groups)


def _log_likelihood(inference: CodeInference, x: Array, u: Array, v: Array) -> Array:
    """log p(x|u, v) of each row."""
    if inference.has_class_priors:
        raise InputError("a likelihood takes one prior for all events; this tagger has one for each class")
    if inference.decoder_variance is None:
        raise InputError(
            "a likelihood needs the variance of p(x|u, v), which this tagger's card does not tell"
        )
    mean = inference.decode_codes(u, v)
    return DiagonalNormal(mean, np.broadcast_to(np.log(inference.decoder_variance), mean.shape)).log_prob(x)
