"""Which latents are cut out of a representation."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.latents.alignment import SupervisedAlignment
from hepdecorr.learning.methods.judging import chunks
from hepdecorr.learning.methods.representation import Representation
from hepdecorr.learning.terms.entropy import mutual_information

log = logging.getLogger(__name__)

RULES = ("aligned", "found")


class Excision(nn.Module):
    """One for each latent that is kept, zero for the others, in `keep` of shape (dims,).

    rule: 'aligned' for the latents that were aligned with the nuisances; 'found' for the one that knows most
    of each nuisance, j = argmax I(z_j; v) as in the MIG (Chen et al. 1802.04942, eq. 6); or the numbers of
    some, [0, 3], and then no others.  None: aligned where there is an alignment, else found.  found: beside
    those of a rule, latents that know a nuisance by more than so many nats are cut out; 0 for none.
    Discrete latents are never kept.
    """

    keep: Tensor

    def __init__(
        self,
        rule: str | Sequence[int] | None,
        *,
        representation: Representation,
        nuisances: Sequence[str],
        found: float,
    ) -> None:
        super().__init__()
        self.rule = _read(rule, representation)
        self.nuisances, self.found = list(nuisances), float(found)
        self.register_buffer("keep", torch.ones(representation.dims))

    @torch.no_grad()
    def fit(self, representation: Representation, validation: Batch) -> None:
        """Decide, on background among these events; InputError where nothing would be left."""
        self.keep.fill_(1.0)
        if not isinstance(self.rule, str):
            self.keep[self.rule] = 0.0
            return
        knows = knowledge(representation, validation)
        cut = {int(column.argmax()) for column in knows.T} if self.rule == "found" else set()
        aligned = range(representation.sensitive) if self.rule == "aligned" else ()
        for d, row in enumerate(knows.tolist()):
            nats = max(row)
            if d in aligned:
                self.keep[d] = 0.0
            elif d in cut or (self.found and nats > self.found):
                name = self.nuisances[row.index(nats)]
                log.warning("latent %d knows %.3f nats of %s and is cut out", d, nats, name)
                self.keep[d] = 0.0
        if not self.keep.any():
            raise InputError(
                "every latent knows the nuisance; raise the beta of TotalCorrelation, the latents or 'found'"
            )

    def forward(self, mean: Tensor) -> Tensor:
        """Latents (n, dims) with zeros for those that are cut out."""
        return self.keep * mean


@torch.no_grad()
def knowledge(representation: Representation, events: Batch) -> Tensor:
    """I(mean of latent d; nuisance) on background, (dims, nuisances), in nats."""
    background = events.take(events.y == 0)
    means = torch.cat([representation.mean(part) for part in chunks(background.x)])
    w = background.w.clamp_min(0)
    nats = [[mutual_information(z, v, w, tail=False) for v in background.z.T] for z in means.T]
    return torch.tensor(nats, device=means.device)


def _read(rule: str | Sequence[int] | None, representation: Representation) -> str | list[int]:
    aligned = any(isinstance(term, SupervisedAlignment) for term in representation.terms.values())
    if rule is None:
        return "aligned" if aligned else "found"
    if isinstance(rule, str):
        if rule not in RULES:
            raise InputError(f"excise must be {' or '.join(RULES)} or numbers of latents, not {rule!r}")
        if rule == "aligned" and not aligned:
            raise InputError(
                "excise: no latent is aligned; add SupervisedAlignment, or write 'excise: found'"
            )
        return rule
    numbers, dims = list(rule), representation.dims
    whole = all(type(k) is int and 0 <= k < dims for k in numbers)
    if not whole or not numbers or len(set(numbers)) >= dims:
        raise InputError(f"excise: {numbers}; give some of the latents 0 to {dims - 1}, not all")
    return numbers
