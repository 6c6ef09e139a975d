"""What every term shares: which events it looks at, what of the score it sees, how strong it is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.terms.nuisance import Nuisance
from hepdecorr.learning.terms.strength import Growth

SEEN = ("logit", "score", "rank")
GIVEN = ("background", "signal", "all", "label")
FEWEST = 8  # events below which a batch says nothing about dependence


class Look(NamedTuple):
    """What a term sees of a batch: m of its n events."""

    seen: Tensor  # (m, k): the score, in k forms
    z: Tensor  # (m,): the transformed nuisance; (m, q) where a term looks at several
    y: Tensor  # (m,)
    w: Tensor  # (m,)


class Term(nn.Module):
    """A price on dependence between the score and a nuisance, or several jointly where the term can.

    nuisance: its name, or names.  strength: factor on the price.  start, ramp: fractions of the training
    before the term acts and over which its strength then grows to the full.  sees: 'logit', 'score' (its
    sigmoid) or 'rank' (among the events looked at).  given: 'background' events only, 'signal' only, 'all',
    or 'label' (all, but each class by itself).  top: look only at this fraction of the events with the
    highest scores.  tail: weigh each event by 1 / (1 - u + tail), u the rank of its score among those looked
    at, so that each decade of rejection has the same say: a weight that depends on the score alone leaves
    independence the optimum; 0 for equal weights.  transform of the nuisance, fitted on background (on signal
    where that is given): 'rank', 'probit', 'standard' or 'none'.  All ranks, and fractions of events, count
    the events by their weights.
    """

    several = False  # whether it can protect several nuisances jointly

    def __init__(
        self,
        nuisance: str | Sequence[str],
        *,
        nuisances: Sequence[str],
        strength: float = 1.0,
        start: float = 0.0,
        ramp: float = 0.0,
        sees: str | Sequence[str] = "logit",
        given: str = "background",
        top: float = 1.0,
        tail: float = 0.0,
        transform: str = "rank",
    ) -> None:
        super().__init__()
        names = (nuisance,) if isinstance(nuisance, str) else tuple(nuisance)
        self._check(names, nuisances)
        if not 0 < top <= 1:
            raise InputError(f"{type(self).__name__}: top must lie in (0, 1], not {top:g}")
        self.sees = (sees,) if isinstance(sees, str) else tuple(sees)
        for name, known in ((given, GIVEN), *((s, SEEN) for s in self.sees)):
            if name not in known:
                raise InputError(f"{type(self).__name__}: no {name!r}{suggest(name, known)}")
        self.nuisances, self.nuisance = names, "_".join(names)
        self.columns = [list(nuisances).index(name) for name in names]
        self.column = self.columns[0]
        if tail < 0:
            raise InputError(f"{type(self).__name__}: tail cannot be negative")
        self.growth = Growth(float(strength), float(start), float(ramp))
        self.given, self.top, self.tail, self.transform = given, float(top), float(tail), transform
        self.scalings = nn.ModuleList(Nuisance(transform) for _ in names)

    @abstractmethod
    def price(self, logit: Tensor, b: Batch) -> Tensor:
        """Scalar without the strength; smaller when the logit, shape (n,), tells less about the nuisance."""

    def fit(self, b: Batch) -> None:
        """Set the scaling of each nuisance from the background, or signal, among the training events."""
        own = b.y == float(self.given == "signal")
        for name, column, scaling in zip(self.nuisances, self.columns, self.scalings, strict=True):
            z = b.z[own, column]
            if len(z) and z.min() == z.max():
                kind = "signal" if self.given == "signal" else "background"
                raise InputError(
                    f"{type(self).__name__}: nuisance {name!r} is {float(z[0]):g} in all {len(z)} {kind} "
                    "events; a constant tells nothing and needs no protection: leave the term out"
                )
            scaling.fit(z, b.w[own])  # type: ignore[operator]

    def among(self, b: Batch) -> Tensor:
        """Which events, shape (n,), are of the kind that is given."""
        if self.given in ("background", "signal"):
            return b.y == float(self.given == "signal")
        return torch.ones_like(b.y, dtype=torch.bool)

    def _scaled(self, z: Tensor) -> Tensor:
        scaled = [scaling(z[:, k]) for k, scaling in zip(self.columns, self.scalings, strict=True)]
        return torch.stack(scaled, 1) if len(scaled) > 1 else scaled[0]

    def _check(self, names: Sequence[str], known: Sequence[str]) -> None:
        for name in names:
            if name not in known:
                raise InputError(f"{type(self).__name__}: no nuisance {name!r}{suggest(name, known)}")
        if not names or len(set(names)) < len(names) or (len(names) > 1 and not self.several):
            raise InputError(
                f"{type(self).__name__}: nuisance is {', '.join(names) or 'empty'}; it must be one name, or "
                "a list of different ones for a term that protects them jointly (DisCo, GMM, Softmax, MINE, "
                "Flatness); give the others one term for each nuisance"
            )

    def look(self, logit: Tensor, b: Batch, *, even: bool = False) -> Look | None:
        """The events this term looks at; None when they are too few.  `even` leaves the tail weight off."""
        index = self.among(b).nonzero()[:, 0]
        if self.top < 1 and len(index):
            index = index[_top(logit.detach()[index], b.w[index], self.top)]
        if len(index) < FEWEST or not b.w[index].sum() > 0:
            return None
        logit, y, w = logit[index].float(), b.y[index], b.w[index]
        if self.tail and not even:
            apart = y if self.given == "label" else torch.zeros_like(y)
            tailed = w * _tail_weight(logit.detach(), apart, w, eta=self.tail)
        else:
            tailed = w
        # A rank among the events looked at, as many as there are of each: the tail weight does not count.
        seen = torch.stack([_seen(name, logit, w) for name in self.sees], 1)
        return Look(seen, self._scaled(b.z[index]), y, tailed)

    def apart(self, look: Look) -> list[Tensor]:
        """The groups of events, each a mask, that are protected by themselves: classes if the label is given.

        Groups without weight are left out.
        """
        if self.given != "label":
            return [torch.ones_like(look.y, dtype=torch.bool)]
        groups = [look.y == label for label in look.y.unique()]
        return [own for own in groups if look.w[own].sum() > 0]


def _seen(name: str, logit: Tensor, w: Tensor) -> Tensor:
    if name == "logit":
        return logit
    return logit.sigmoid() if name == "score" else soft_rank(logit, w)


def _top(logit: Tensor, w: Tensor, fraction: float) -> Tensor:
    """Index of the events with the highest scores that hold this fraction of the weight."""
    order = logit.argsort(descending=True)
    return order[w[order].cumsum(0) <= fraction * w.sum()]


def _tail_weight(logit: Tensor, y: Tensor, w: Tensor, *, eta: float) -> Tensor:
    """1 / (1 - u + eta), shape (n,), with u the rank of the logit in (0, 1) among events of the same y."""
    if not y.any():
        return 1 / (1 - ranks(logit, w) + eta)
    weight = torch.empty_like(logit)
    for label in y.unique():
        own = (y == label).nonzero()[:, 0]
        weight[own] = 1 / (1 - ranks(logit[own], w[own]) + eta)
    return weight


def ranks(t: Tensor, w: Tensor) -> Tensor:
    """Share of the weight below each entry, half of its own included: in (0, 1), shape (n,)."""
    order = t.argsort()
    placed = torch.empty_like(t)
    placed[order] = middles(w[order]).to(t.dtype)
    return placed


def middles(w: Tensor) -> Tensor:
    """Where the middle of each of the weights stands when they are laid side by side on (0, 1)."""
    w = w.double().clamp_min(0)
    grown = w.cumsum(0)
    # Without any weight all are alike.
    if not len(w) or not grown[-1] > 0:
        return (torch.arange(len(w), dtype=w.dtype, device=w.device) + 0.5) / max(1, len(w))
    return (grown - w / 2) / grown[-1]


def soft_rank(t: Tensor, w: Tensor | None = None) -> Tensor:
    """Weighted rank of each entry in (0, 1), shape (n,), with the local density as its derivative."""
    count = len(t)
    order = t.detach().argsort()
    placed = middles(torch.ones_like(t) if w is None else w[order])
    reach = max(1, round(count**0.5 / 2))
    place = torch.arange(count, device=t.device)
    low, high = (place - reach).clamp_min(0), (place + reach).clamp_max(count - 1)
    ordered = t.detach()[order]
    rank, density = torch.empty_like(t), torch.empty_like(t)
    rank[order] = placed.to(t.dtype)
    density[order] = (placed[high] - placed[low]).to(t.dtype) / (ordered[high] - ordered[low]).clamp_min(1e-6)
    return rank + density * (t - t.detach())
