"""The evidence lower bound of groups, taken apart."""

from __future__ import annotations

import torch
from torch import Tensor

from hepdecorr.learning.groups.members import Members
from hepdecorr.learning.groups.net import Inferred, Net
from hepdecorr.learning.groups.posteriors import nats


def bill(
    net: Net, inferred: Inferred, target: Tensor, among: Members, *, w: Tensor, y: Tensor
) -> dict[str, Tensor]:
    """Minus the ELBO of whole groups, an event, in nats; its parts, each a scalar.

    sum over groups of [KL(q(u|x) || p(u)) + sum over its events of (KL(q(v|x,u) || p(v)) - log p(x|u,v))]
    (reference 3, section 2.1), over the number of events.  Events count by their weights (n,), negative ones
    as nothing; the KL of a group counts once, whatever its events weigh.  Labels y (n,) choose p(v) where
    there is one for each class.
    """
    w = w.clamp_min(0)
    total = w.sum()
    share = (total > 0) / torch.where(total > 0, total, 1.0)
    distance = net.distance(target, inferred.u.index_select(0, among.group), inferred.v)
    return {
        "reconstruct": share * (w * (distance + net.constant)).sum(),
        "kl_group": share * nats(inferred.group).sum(),
        "kl_instance": share * (w * net.instance_nats(inferred.instance, y).sum(1)).sum(),
    }
