"""Judging an epoch of a variational autoencoder on validation events."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hepdecorr.learning.anomaly.jets import Jets
from hepdecorr.learning.anomaly.loss import Loss
from hepdecorr.learning.anomaly.variational import Told, Variational
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.latents.term import weighted_mean
from hepdecorr.learning.methods.judging import Costs, auc, chunks
from hepdecorr.learning.players import Verdict

ACTIVE = 0.01  # nats of KL, mean over background, above which a latent is in use
UNFINISHED = 1e6  # violation of an epoch without all weights, beyond that of any constraint
LATENT = ("kl", "density")  # scores that say nothing where no latent is in use
TRIED = ("mse", "kl", "nll", "sumsq")  # scores that are there while the network learns


class VAEJudge:
    """The whole loss at full strength on validation events, plus what dependence costs.

    An epoch in which a weight (beta, exposure) was not full counts as one that violates a constraint: it is
    kept only where there is no other.  epoch: gives the number of this one, from 1 on.
    """

    def __init__(self, loss: Loss, validation: Batch, *, costs: Costs, epoch: Callable[[], int]) -> None:
        self._loss, self._validation, self._costs, self._epoch = loss, validation, costs, epoch

    def __call__(self, latest: Mapping[str, float]) -> Verdict:
        """The verdict on the weights as they are now; `latest` holds the epoch's training losses."""
        b, vae = self._validation, self._loss.vae
        told = tell(vae, self._loss.jets, b.x)
        bill = {name: float(value) for name, value in self._loss.price(b).items()}
        figures = figures_of(told, b) | {name: v for name, v in bill.items() if name != "kl"}
        dependence = self._costs(vae.standard(told.scores[vae.standard.score]), b, latest)
        figures |= dependence.figures
        complaints = [dependence.complaint] if dependence.complaint else []
        if not figures["active"] and vae.standard.score in LATENT:
            complaints.append(
                f"the KL has vanished: no latent of {vae.beta.latents} holds {ACTIVE:g} nats, and score "
                f"{vae.standard.score} says nothing; lower beta ({vae.beta.value:g})"
            )
        full = self._loss.full(self._epoch())
        violation = dependence.violation + (0.0 if full else UNFINISHED)
        return Verdict(sum(bill.values()) + dependence.criterion, figures, "; ".join(complaints), violation)


def tell(vae: Variational, jets: Callable[[Tensor], Jets], x: Tensor) -> Told:
    """What the autoencoder says of flat rows, in chunks, without what it decodes."""
    parts = [vae.tell(jets(part)) for part in chunks(x)]
    return Told(
        torch.cat([one.mean for one in parts]),
        torch.cat([one.kl for one in parts]),
        parts[0].decoded[:0],
        {name: torch.cat([one.scores[name] for one in parts]) for name in parts[0].scores},
    )


def figures_of(told: Told, b: Batch) -> dict[str, float]:
    """Mean mse and kl of background, latents in use, and the AUC of each score where there are outliers."""
    own = b.y == 0
    w = b.w[own]
    each = torch.stack([weighted_mean(one, w) for one in told.kl[own].T])
    figures = {
        "mse": float(weighted_mean(told.scores["mse"][own], w)),
        "kl_nats": float(each.sum()),
        "active": float((each > ACTIVE).sum()),
    }
    if b.w[~own].sum() > 0:
        figures |= {f"auc_{name}": auc(told.scores[name], b) for name in TRIED}
    return figures
