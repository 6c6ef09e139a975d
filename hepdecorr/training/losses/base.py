"""What every term shares: which events it looks at, what of the score it sees, how strong it is.

Terms that are a figure of dependence and need no training.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.losses.nuisance_transform import NuisanceTransform
from hepdecorr.training.losses.schedules import Schedule
from hepdecorr.training.optim import full_precision

SCORE_FORMS = ("logit", "score", "rank")
TERM_CLASSES = ("background", "signal", "all", "each")
MIN_TERM_EVENTS = 8  # events below which a batch says nothing about dependence


class TermBatch(NamedTuple):
    """What a term sees of a batch: m of its n events."""

    score: Tensor  # (m, k): the score, in k forms
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

    joint = False  # whether it can protect several nuisances jointly

    def __init__(
        self,
        nuisance: str | Sequence[str],
        *,
        nuisances: Sequence[str],
        strength: float = 1.0,
        start: float = 0.0,
        ramp: float = 0.0,
        score_as: str | Sequence[str] = "logit",
        classes: str = "background",
        top_fraction: float = 1.0,
        tail_weight: float = 0.0,
        transform: str = "rank",
    ) -> None:
        super().__init__()
        names = (nuisance,) if isinstance(nuisance, str) else tuple(nuisance)
        self._check_nuisances(names, nuisances)
        if not 0 < top_fraction <= 1:
            raise InputError(f"{type(self).__name__}: top must lie in (0, 1], not {top_fraction:g}")
        self.score_as = (score_as,) if isinstance(score_as, str) else tuple(score_as)
        for name, known in ((classes, TERM_CLASSES), *((s, SCORE_FORMS) for s in self.score_as)):
            if name not in known:
                raise InputError(f"{type(self).__name__}: no {name!r}{suggest(name, known)}")
        self.nuisances, self.nuisance_label = names, "_".join(names)
        self.columns = [list(nuisances).index(name) for name in names]
        self.column = self.columns[0]
        if tail_weight < 0:
            raise InputError(f"{type(self).__name__}: tail_weight cannot be negative")
        self.schedule = Schedule(float(strength), float(start), float(ramp))
        self.classes, self.top_fraction, self.tail_weight, self.transform = (
            classes,
            float(top_fraction),
            float(tail_weight),
            transform,
        )
        self.nuisance_transforms = nn.ModuleList(NuisanceTransform(transform) for _ in names)

    @abstractmethod
    def penalty(self, logit: Tensor, batch: Batch) -> Tensor:
        """Scalar without the strength; smaller when the logit, shape (n,), tells less about the nuisance."""

    def fit(self, batch: Batch) -> None:
        """Set the scaling of each nuisance from the background, or signal, among the training events."""
        own = batch.y == float(self.classes == "signal")
        for name, column, scaling in zip(self.nuisances, self.columns, self.nuisance_transforms, strict=True):
            z = batch.z[own, column]
            if len(z) and z.min() == z.max():
                kind = "signal" if self.classes == "signal" else "background"
                raise InputError(
                    f"{type(self).__name__}: nuisance {name!r} is {float(z[0]):g} in all {len(z)} {kind} "
                    "events; a constant tells nothing and needs no protection: leave the term out"
                )
            scaling.fit(z, batch.w[own])  # type: ignore[operator]

    def event_mask(self, batch: Batch) -> Tensor:
        """Which events, shape (n,), are of the kind that is given."""
        if self.classes in ("background", "signal"):
            return batch.y == float(self.classes == "signal")
        return torch.ones_like(batch.y, dtype=torch.bool)

    def _transform_nuisances(self, z: Tensor) -> Tensor:
        scaled = [scaling(z[:, k]) for k, scaling in zip(self.columns, self.nuisance_transforms, strict=True)]
        return torch.stack(scaled, 1) if len(scaled) > 1 else scaled[0]

    def _check_nuisances(self, names: Sequence[str], table_nuisances: Sequence[str]) -> None:
        for name in names:
            if name not in table_nuisances:
                raise InputError(
                    f"{type(self).__name__}: no nuisance {name!r}{suggest(name, table_nuisances)}"
                )
        if not names or len(set(names)) < len(names) or (len(names) > 1 and not self.joint):
            raise InputError(
                f"{type(self).__name__}: nuisance is {', '.join(names) or 'empty'}; it must be one name, or "
                "a list of different ones for a term that protects them jointly (DisCo, GMM, "
                "QuantileBinAdversary, MINE, Flatness); give the others one term for each nuisance"
            )

    def select(self, logit: Tensor, batch: Batch, *, ignore_tail_weight: bool = False) -> TermBatch | None:
        """The events this term looks at; None when they are too few.  `even` leaves the tail weight off."""
        index = self.event_mask(batch).nonzero()[:, 0]
        if self.top_fraction < 1 and len(index):
            index = index[_top_indices(logit.detach()[index], batch.w[index], self.top_fraction)]
        if len(index) < MIN_TERM_EVENTS or not batch.w[index].sum() > 0:
            return None
        logit, y, w = logit[index].float(), batch.y[index], batch.w[index]
        if self.tail_weight and not ignore_tail_weight:
            apart = y if self.classes == "each" else torch.zeros_like(y)
            tailed = w * _tail_weights(logit.detach(), apart, w, tail_weight=self.tail_weight)
        else:
            tailed = w
        # A rank among the events looked at, as many as there are of each: the tail weight does not count.
        seen = torch.stack([_score_as(name, logit, w) for name in self.score_as], 1)
        return TermBatch(seen, self._transform_nuisances(batch.z[index]), y, tailed)

    def class_masks(self, term_batch: TermBatch) -> list[Tensor]:
        """The groups of events, each a mask, that are protected by themselves: classes if the label is given.

        Groups without weight are left out.
        """
        if self.classes != "each":
            return [torch.ones_like(term_batch.y, dtype=torch.bool)]
        groups = [term_batch.y == label for label in term_batch.y.unique()]
        return [own for own in groups if term_batch.w[own].sum() > 0]


def _score_as(score_form: str, logit: Tensor, w: Tensor) -> Tensor:
    if score_form == "logit":
        return logit
    return logit.sigmoid() if score_form == "score" else soft_rank(logit, w)


def _top_indices(logit: Tensor, w: Tensor, fraction: float) -> Tensor:
    """Index of the events with the highest scores that hold this fraction of the weight."""
    order = logit.argsort(descending=True)
    return order[w[order].cumsum(0) <= fraction * w.sum()]


def _tail_weights(logit: Tensor, y: Tensor, w: Tensor, *, tail_weight: float) -> Tensor:
    """1 / (1 - u + eta), shape (n,), with u the rank of the logit in (0, 1) among events of the same y."""
    if not y.any():
        return 1 / (1 - weighted_ranks(logit, w) + tail_weight)
    weight = torch.empty_like(logit)
    for label in y.unique():
        own = (y == label).nonzero()[:, 0]
        weight[own] = 1 / (1 - weighted_ranks(logit[own], w[own]) + tail_weight)
    return weight


def weighted_ranks(values: Tensor, w: Tensor) -> Tensor:
    """Share of the weight below each entry, half of its own included: in (0, 1), shape (n,)."""
    order = values.argsort()
    placed = torch.empty_like(values)
    placed[order] = midpoints(w[order]).to(values.dtype)
    return placed


def midpoints(w: Tensor) -> Tensor:
    """Where the middle of each of the weights stands when they are laid side by side on (0, 1)."""
    w = w.double().clamp_min(0)
    grown = w.cumsum(0)
    # Without any weight all are alike.
    if not len(w) or not grown[-1] > 0:
        return (torch.arange(len(w), dtype=w.dtype, device=w.device) + 0.5) / max(1, len(w))
    return (grown - w / 2) / grown[-1]


def soft_rank(values: Tensor, w: Tensor | None = None) -> Tensor:
    """Weighted rank of each entry in (0, 1), shape (n,), with the local density as its derivative."""
    count = len(values)
    order = values.detach().argsort()
    placed = midpoints(torch.ones_like(values) if w is None else w[order])
    reach = max(1, round(count**0.5 / 2))
    place = torch.arange(count, device=values.device)
    low, high = (place - reach).clamp_min(0), (place + reach).clamp_max(count - 1)
    ordered = values.detach()[order]
    rank, density = torch.empty_like(values), torch.empty_like(values)
    rank[order] = placed.to(values.dtype)
    density[order] = (placed[high] - placed[low]).to(values.dtype) / (ordered[high] - ordered[low]).clamp_min(
        1e-6
    )
    return rank + density * (values - values.detach())


class DependencePenalty(Term):
    """A term that measures dependence; with `given: label` in each class, and their mean is paid."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if len(self.score_as) > 1:
            raise InputError(
                f"{type(self).__name__} sees one form of the score, not {', '.join(self.score_as)}"
            )

    @abstractmethod
    def measure_dependence(self, s: Tensor, z: Tensor, w: Tensor) -> Tensor:
        """Scalar, 0 for independence: of s (m,), nuisance z (m,) or (m, q) and weights w (m,)."""

    def penalty(self, logit: Tensor, batch: Batch) -> Tensor:
        """The measure over the events looked at; 0 when they are too few."""
        price, look = logit.sum() * 0, self.select(logit, batch)
        if look is None:
            return price
        for own in self.class_masks(look):
            if own.sum() >= MIN_TERM_EVENTS:
                share = look.w[own].sum() / look.w.sum()
                with full_precision(logit):
                    measured = self.measure_dependence(look.score[own, 0], look.z[own], look.w[own])
                price = price + share * measured
        return price


def weighted_mean(values: Tensor, w: Tensor) -> Tensor:
    """Mean over events of values of shape (n,); 0, with gradient 0, where weights sum to nothing or less."""
    total = w.sum()
    # One in place of nothing: the smallest number there is would give the gradient 0 x infinity.
    return (total > 0) * (w * values).sum() / torch.where(total > 0, total, 1.0)
