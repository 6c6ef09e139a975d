"""Constituents as four-vectors in the frame of their jet, scaled: preprocessing that travels in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.networks.jet_pose import Pose, along_beam, at_rest
from hepdecorr.learning.precision import in_full

BOOSTS = ("rest", "beam", "none")
SCALES = ("robust", "standard", "none")
PER = ("slot", "component")

# What no constituent exceeds; beyond it numbers would leave float32 on their way.
HARDEST = 2e4  # GeV
STEEPEST = 6.0  # pseudorapidity: calorimeters end at 5.2
_HEAVIEST = 1e3  # GeV
_RESOLVED = 1e-10  # of the jet's energy in the laboratory: less than this is what rounding left
_AT_ONCE = 20_000  # jets that are looked at together in fit: float64 takes room


class Placed(NamedTuple):
    """Jets in their frames, before scaling."""

    momenta: Tensor  # (n, length, 4): E, px, py, pz, GeV in the frame; zero where there is none
    mask: Tensor  # (n, length), bool
    good: Tensor  # (n,), bool: two constituents at least that have momentum
    pose: Pose  # the way back to the laboratory, float64


class Framed(NamedTuple):
    """What a network is given of jets."""

    x: Tensor  # (n, length, 4), scaled
    mask: Tensor  # (n, length), bool
    momenta: Tensor  # (n, length, 4), GeV in the frame
    good: Tensor  # (n,), bool: see Placed


class JetFrame(nn.Module):
    """The `length` leading constituents of a jet as (E, px, py, pz) in a frame of its own, of order one.

    constituents: names of their features, of which pt or log_pt, eta and phi or deta and dphi, and mass
    (where there is none they are massless) are read.  From deta and dphi "the laboratory" has the jet's axis
    at eta = phi = 0, and masses count as if it did.

    boost: 'rest', the rest frame of the sum of these constituents, as in T. Cheng et al., arXiv:2007.01850;
    'beam', along the beam alone, as is told of that paper's code; 'none'.  `rotate` turns to the principal
    axis; jet_pose.at_rest and along_beam say how.  scale: 'robust' (median and interquartile range, as that
    paper), 'standard' (mean and deviation) or 'none' (GeV).  per: 'slot' scales each of the 4 length numbers
    by itself, with the zeros of the padding among them, as that paper does; 'component' scales E, px, py, pz
    of all constituents together, and the padding is 0 after it.

    Where half or more of a slot is padding the quartiles may lie at its zeros: an interquartile range below
    half of that of the constituents which are there is replaced by the latter; one of 0, by 1 GeV.
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        constituents: Sequence[str],
        *,
        length: int = 20,
        boost: str = "rest",
        rotate: bool = True,
        scale: str = "robust",
        per: str = "slot",
    ) -> None:
        super().__init__()
        for name, value, known in (("boost", boost, BOOSTS), ("scale", scale, SCALES), ("per", per, PER)):
            if value not in known:
                raise InputError(f"frame: no {name} {value!r}{suggest(str(value), known)}")
        given: Any = length  # from YAML, where it may be anything
        if not isinstance(given, int) or given < 2:
            raise InputError(
                f"frame: length {length!r}; it is a whole number, and a jet has 2 constituents at least"
            )
        if not isinstance(rotate, bool):
            raise InputError(f"frame: rotate is true or false, not {rotate!r}")
        self.length, self.boost, self.rotate, self.scale, self.per = length, boost, rotate, scale, per
        self._read = Reading(constituents)
        rows = length if per == "slot" else 1
        self.register_buffer("centre", torch.zeros(rows, 4))
        self.register_buffer("spread", torch.ones(rows, 4))

    def place(self, constituents: Tensor, mask: Tensor) -> Placed:
        """Raw features (n, L, c) and mask (n, L) of any number L of slots, in the frame of each jet.

        Always finite.  Jets that are not `good` have a frame too, but no meaning: a constituent at rest.
        """
        # Padded before it is cut: whatever L, the graph has `length` slots behind it.
        mask = F.pad(mask.to(torch.bool), (0, self.length))[:, : self.length]
        constituents = F.pad(constituents, (0, 0, 0, self.length))[:, : self.length]
        with in_full(constituents):
            p, pt = self._read(constituents, mask)
            if self.boost == "rest":
                pose = at_rest(p, rotate=self.rotate)
            else:
                pose = along_beam(p, rotate=self.rotate, boost=self.boost == "beam")
            momenta = pose.into(p)
            least = _RESOLVED * p[..., 0].sum(1)[:, None, None]
            momenta = torch.where(momenta.abs() < least, 0.0, momenta).float()
        return Placed(momenta, mask, (pt > 0).sum(1) > 1, pose)

    def forward(self, constituents: Tensor, mask: Tensor) -> Framed:
        """Scaled four-vectors of raw features (n, L, c) with mask (n, L)."""
        momenta, mask, good, _ = self.place(constituents, mask)
        x = (momenta - self.centre) / self.spread
        if self.per == "component":
            x = torch.where(mask[..., None], x, 0.0)
        return Framed(x, mask, momenta, good)

    def unscale(self, x: Tensor) -> Tensor:
        """Momenta in GeV of scaled ones (n, length, 4); it knows of no padding, nor of a mass shell."""
        return x * self.spread + self.centre

    @torch.no_grad()
    def fit(self, constituents: Tensor, mask: Tensor, w: Tensor | None = None) -> None:
        """Set the scale from training jets, w (n,) their weights; those that are not good have no part.

        InputError where no jet is good.
        """
        parts = [
            self.place(c, m) for c, m in zip(constituents.split(_AT_ONCE), mask.split(_AT_ONCE), strict=True)
        ]
        momenta, there, good = (torch.cat([part[k] for part in parts]) for k in range(3))  # type: ignore[misc]
        w = torch.ones(len(momenta), device=momenta.device) if w is None else w
        good &= w > 0
        if not good.any():
            raise InputError(
                f"frame: of {len(good)} jets none has two constituents with momentum and a positive weight"
            )
        if self.scale == "none":
            return
        columns = momenta[good].double(), there[good], w[good].double()
        for slot in range(len(self.centre)):
            for k in range(4):
                own = self._column(*columns, slot=slot, k=k)
                self.centre[slot, k], self.spread[slot, k] = _location(*own, robust=self.scale == "robust")

    def _column(
        self, momenta: Tensor, mask: Tensor, w: Tensor, *, slot: int, k: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values, which of them are constituents, and weights."""
        if self.per == "slot":
            return momenta[:, slot, k], mask[:, slot], w
        filled = momenta[..., k][mask]
        return filled, torch.ones_like(filled, dtype=torch.bool), w[:, None].expand_as(mask)[mask]


class Reading:
    """Four-momenta from the features of constituents, by their names."""

    def __init__(self, constituents: Sequence[str]) -> None:
        names = list(constituents)
        self._logarithm = "pt" not in names
        pt = next((n for n in ("pt", "log_pt") if n in names), None)
        angles = next((p for p in (("eta", "phi"), ("deta", "dphi")) if set(p) <= set(names)), None)
        if pt is None or angles is None:
            raise InputError(
                "frame: four-momenta are made of pt or log_pt, of eta and phi (or deta and dphi), and of "
                f"mass, among the features of constituents; they are {', '.join(names) or 'none'}"
            )
        self._columns = [names.index(n) for n in (pt, *angles)]
        self._mass = names.index("mass") if "mass" in names else None

    def __call__(self, constituents: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Momenta (n, L, 4) in float64, where the device has it, and pt (n, L); zero in the padding."""
        raw = torch.where(mask[..., None], constituents, 0.0)
        raw = raw.float() if raw.device.type == "mps" else raw.double()
        pt, eta, phi = (raw[..., k] for k in self._columns)
        if self._logarithm:
            pt = pt.clamp(-20, 20).exp()
        pt = torch.where(mask, pt.clamp(0, HARDEST), 0.0)
        eta, phi = eta.clamp(-STEEPEST, STEEPEST), phi.clamp(-4, 4)
        pz = 0.5 * pt * (eta.exp() - (-eta).exp())
        e2 = pt * pt + pz * pz
        if self._mass is not None:
            # A constituent without momentum is none, whatever its mass.
            mass = torch.where(pt > 0, raw[..., self._mass].clamp(0, _HEAVIEST), 0.0)
            e2 = e2 + mass * mass
        return torch.stack([e2.sqrt(), pt * phi.cos(), pt * phi.sin(), pz], -1), pt


def _location(values: Tensor, there: Tensor, w: Tensor, *, robust: bool) -> tuple[float, float]:
    """What is subtracted, and by what is divided."""
    if not len(values):
        return 0.0, 1.0
    if robust:
        low, centre, high = quantiles(values, w, (0.25, 0.5, 0.75))
        spread = high - low
        if there.any():
            low, _, high = quantiles(values[there], w[there], (0.25, 0.5, 0.75))
            if spread < 0.5 * (high - low):
                spread = high - low
    else:
        centre = float((w * values).sum() / w.sum())
        spread = float((w * (values - centre) ** 2).sum() / w.sum()) ** 0.5
    tiny = 1e-9 + 1e-6 * abs(centre)  # float32 noise on a constant is no spread
    return centre, spread if spread > tiny else 1.0


def quantiles(values: Tensor, w: Tensor, at: Sequence[float]) -> list[float]:
    """Weighted quantiles (n,) -> one for each of `at`; of equal weights those of numpy."""
    values, order = values.sort()
    w = w[order]
    # The middle of each event's weight, from 0 at the first to 1 at the last.
    place = w.cumsum(0) - 0.5 * w
    place = (place - place[0]) / (place[-1] - place[0]).clamp_min(1e-300)
    wanted = torch.tensor(list(at), dtype=place.dtype, device=place.device)
    high = torch.searchsorted(place, wanted).clamp(1, max(1, len(values) - 1)).clamp_max(len(values) - 1)
    low = (high - 1).clamp_min(0)
    part = ((wanted - place[low]) / (place[high] - place[low]).clamp_min(1e-300)).clamp(0, 1)
    return [float(v) for v in values[low] + part * (values[high] - values[low])]
