"""How much there is to guess, and how much a score gives away: figures that judge the adversaries."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial import KDTree
from scipy.special import digamma, gammaln
from torch import Tensor


def differential_entropy(z: Tensor, w: Tensor | None = None) -> float:
    """Entropy of a continuous variable in nats, from z and weights w of shape (n,), by m-spacings.

    Vasicek (1976) with Ebrahimi's end correction (1994); good to 0.02 nats at n = 2000, of effective events
    where there are weights, which take the place of the events between two neighbours.  Of z of shape (n, q)
    the joint entropy.
    """
    if z.ndim > 1:
        return _joint_entropy(z, torch.ones_like(z[:, 0]) if w is None else w)
    z, order = z.double().sort()
    w = torch.ones_like(z) if w is None else w[order].double().clamp_min(0)
    if not w.sum() > 0:
        return 0.0
    count, share = len(z), w / w.sum()
    # As many neighbours as hold the square root of the effective events.
    reach = max(1, round(count * float((share**2).sum()) ** 0.5))
    place = torch.arange(count, device=z.device)
    low, high = (place - reach).clamp_min(0), (place + reach).clamp_max(count - 1)
    grown = share.cumsum(0) - share / 2
    gap, between = (z[high] - z[low]).clamp_min(1e-9), (grown[high] - grown[low]).clamp_min(1e-300)
    return float((share * (gap / between).log()).sum())


def _joint_entropy(z: Tensor, w: Tensor, *, near: int = 10, most: int = 20_000) -> float:
    """By the distance of the tenth neighbour (Kozachenko, Leonenko 1987), of at most so many of the events.

    The share of the weight among the neighbours takes the place of their number.
    """
    keep = (w > 0).nonzero()[:, 0]
    keep = keep[:: max(1, -(-len(keep) // most))]
    points, share = z[keep].double().cpu().numpy(), w[keep].double().cpu().numpy()
    if len(points) <= near:
        return 0.0
    distance, place = KDTree(points).query(points, k=near + 1)
    dims, total = points.shape[1], share.sum()
    ball = 0.5 * dims * math.log(math.pi) - float(gammaln(0.5 * dims + 1))
    volume = ball + dims * np.log(np.maximum(distance[:, -1], 1e-9))
    inside = share[place[:, 1:]].sum(1) / (total - share)
    return float((share / total * (volume - np.log(inside))).sum() + math.log(near) - digamma(near))


def conditional_entropy(z: Tensor, y: Tensor, w: Tensor) -> float:
    """Entropy of z within the classes y, in nats, weighted by the classes' summed w."""
    parts = [(y == label) for label in y.unique()]
    return sum(differential_entropy(z[own], w[own]) * float(w[own].sum() / w.sum()) for own in parts)


def mutual_information(s: Tensor, z: Tensor, w: Tensor, *, bins: int = 20, tail: bool = True) -> float:
    """I(s; z) in nats between two variables of shape (n,), on quantile bins, less its bias.

    The bias is Miller's and Madow's, (a - 1)(b - 1) / 2 n_eff; the estimate may be slightly negative.
    With `tail` the score's bins become finer towards its end, where one cuts: up to its highest 0.5 %.
    """
    places = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    edges = torch.cat([places, torch.tensor([0.98, 0.99, 0.995], dtype=torch.float64)]) if tail else places
    a, a_count = _binned(s, w, edges)
    b, b_count = _binned(z, w, places)
    joint = torch.zeros(a_count * b_count, dtype=torch.float64, device=s.device)
    joint = joint.index_add(0, a * b_count + b, w.double()).view(a_count, b_count) / w.double().sum()
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    nats = float((torch.xlogy(joint, joint) - torch.xlogy(joint, apart)).sum())
    effective = float(w.double().sum() ** 2 / (w.double() ** 2).sum())
    used = (int((joint.sum(1) > 0).sum()) - 1) * (int((joint.sum(0) > 0).sum()) - 1)
    return nats - used / (2 * max(1.0, effective))


def _binned(t: Tensor, w: Tensor, places: Tensor) -> tuple[Tensor, int]:
    ordered, order = t.double().sort()
    grown = w.double()[order].cumsum(0)
    at = torch.searchsorted(grown, places.to(t.device) * grown[-1]).clamp_max(len(t) - 1)
    edges = ordered[at].unique()
    return torch.searchsorted(edges, t.double().contiguous(), right=True), len(edges) + 1


UNIT_GAUSSIAN = 0.5 * math.log(2 * math.pi * math.e)  # 1.4189 nats: the floor of a GMM after 'probit'
