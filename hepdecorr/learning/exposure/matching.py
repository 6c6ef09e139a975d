"""Outliers drawn so that their spectrum is the background's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.reweighting import Reweighting

log = logging.getLogger(__name__)

HOW = ("resample",)
REFRESH = ("epoch", "once")
FEW = 200  # effective outliers below which a warning is given
PRIME = 7919  # between the seeds of two epochs


@dataclass(frozen=True)
class Matching:
    """How outliers are brought to the background's spectrum of `nuisance`, one or two of them.

    how: 'resample' draws them, with replacement, as often as the ratio of the spectra and their weights say
    (the author's code trains on outliers that are distributed as the background is; the slides weigh them,
    which here is the tagger's block `reweight`).  refresh: draw again each 'epoch', or 'once'.  bins, cap:
    of the ratio, see Reweighting.
    """

    nuisance: tuple[str, ...] = ()
    how: str = "resample"
    refresh: str = "epoch"
    bins: int = 40
    cap: float = 50.0

    @classmethod
    def read(cls, spec: Mapping[str, Any], *, where: str) -> Self:
        """From the block `match`."""
        known = [f.name for f in fields(cls)]
        if not isinstance(spec, Mapping):
            raise InputError(f"{where} must say in what, as {{nuisance: mass, how: resample}}, not {spec!r}")
        for key in spec:
            if key not in known:
                raise InputError(f"{where}: there is no {key!r}{suggest(str(key), known)}")
        for key, allowed in (("how", HOW), ("refresh", REFRESH)):
            if key in spec and spec[key] == "reweight":
                raise InputError(
                    f"{where}: for weights write, beside 'exposure', reweight: {{nuisances: "
                    "[NAME], of: signal, to: background}"
                )
            if key in spec and spec[key] not in allowed:
                raise InputError(f"{where}: {key}: no {spec[key]!r}{suggest(str(spec[key]), allowed)}")
        given = spec.get("nuisance", ())
        names = (given,) if isinstance(given, str) else tuple(given)
        return cls(**{**spec, "nuisance": names})

    def rule(self, nuisances: Sequence[str]) -> Reweighting:
        """The same as weights; InputError where a nuisance is none."""
        spec = {"nuisances": list(self.nuisance), "bins": self.bins, "cap": self.cap}
        try:
            return Reweighting.read(spec | {"of": "signal", "to": "background"}, known=nuisances)
        except InputError as err:
            raise InputError(str(err).replace("reweight:", "exposure: match:", 1)) from err


class Matched:
    """The outliers of a sample, matched: `take` gives as many as a batch wants.

    events: background and outliers that the ratio is found from, with nuisances of the names given.  All
    draws follow from `seed` and the epoch, so that a training that goes on draws what it would have drawn.
    """

    def __init__(self, matching: Matching, events: Batch, *, nuisances: Sequence[str], seed: int) -> None:
        rule = matching.rule(nuisances)
        self._columns = [list(nuisances).index(name) for name in matching.nuisance]
        self._rule = rule.fit(*self._arrays(events))
        self._matching, self._seed, self._epoch = matching, seed, -1
        self._outliers = events.take((events.y == 1).nonzero()[:, 0])
        weighed = self.weighed(self._outliers)
        self._weight = weight = weighed.w.double().clamp_min(0) * weighed.r
        self._order = torch.zeros(0, dtype=torch.int64)
        warn_of_few(weight, about="outliers matched in " + ", ".join(matching.nuisance))

    def take(self, count: int, *, epoch: int, turn: int) -> Batch:
        """So many outliers for this turn of the epoch, of weight one each."""
        once = self._matching.refresh == "once"
        if self._epoch != (0 if once else epoch):
            self._epoch = 0 if once else epoch
            self._order = self._draw(Generator().manual_seed(self._seed + PRIME * (self._epoch + 1)))
        place = (turn * count + torch.arange(count, device=self._order.device)) % len(self._order)
        drawn = self._outliers.take(self._order[place])
        return drawn._replace(w=torch.ones_like(drawn.w), r=torch.ones_like(drawn.r))

    def weighed(self, outliers: Batch) -> Batch:
        """Outliers with the ratio of the spectra as their factor r, for where none is drawn."""
        factor = torch.as_tensor(self._rule(*self._arrays(outliers)), device=outliers.r.device)
        return outliers._replace(r=factor.to(outliers.r.dtype))

    def _arrays(self, b: Batch) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Nuisances (n, k), labels and weights (n,)."""
        z, label, w = (t.cpu().numpy().astype(np.float64) for t in (b.z[:, self._columns], b.y, b.w))
        return z, label.astype(np.int64), w

    def _draw(self, generator: Generator) -> Tensor:
        """As many as there are, in equal steps of the weight from a random start, shuffled."""
        grown = self._weight.cumsum(0)
        steps = torch.arange(len(grown), dtype=torch.float64) + torch.rand(1, generator=generator).double()
        places = torch.searchsorted(grown, steps.to(grown.device) * (grown[-1] / len(grown)))
        mixed = torch.randperm(len(grown), generator=generator).to(grown.device)
        return places.clamp_max(len(grown) - 1)[mixed]


def warn_of_few(weight: Tensor, *, about: str) -> float:
    """How many events of equal weight say as much (Kish); a warning where they are few."""
    w = weight.double()
    effective = float(w.sum() ** 2 / w.square().sum().clamp_min(1e-300))
    if effective < FEW:
        log.warning(
            "%s: %d of them count as %.0f of equal weight; exposure to so few teaches these jets alone",
            about, len(w), effective,
        )  # fmt: skip
    return effective
