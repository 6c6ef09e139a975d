"""Frames in which jets are looked at: how each moves and lies in the laboratory, and the way back from it.

Four-momenta are (n, L, 4), energy and x, y, z, zero where there is no constituent.  Everything is made of
what ONNX has in float64: in float32 a light jet's mass would be gone, and nearly round jets would be turned
differently by torch and by ONNX Runtime.

Constituents as four-vectors in the frame of their jet, scaled: preprocessing that travels in the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.optim import full_precision

MIN_RELATIVE_MASS = (
    1e-4  # jets of less mass, relative to their energy, are boosted as of this one (as features rest_* are)
)
SIGN_TOLERANCE = (
    1e-9  # relative to the sum of energies: below this rounding would choose the side that an axis points to
)
_TINY = 1e-30  # nothing is divided by less
_NEWTON_STEPS = 6  # steps to the root: each squares an error that is 0.27 before the first


class FrameTransform(NamedTuple):
    """The frame of each jet, as the laboratory sees it."""

    gamma_beta: Tensor  # (n, 3): gamma times beta
    axes: Tensor  # (n, 3, 3): x, y and z of the frame as rows, among those of the boosted laboratory

    def to_frame(self, p: Tensor) -> Tensor:
        """Momenta of the laboratory (n, L, 4) in the frame."""
        p = boost_momenta(p, self.gamma_beta)
        return torch.cat([p[..., :1], p[..., 1:] @ self.axes.transpose(1, 2)], -1)

    def to_lab(self, p: Tensor) -> Tensor:
        """Momenta of the frame (n, L, 4) in the laboratory."""
        p = torch.cat([p[..., :1], p[..., 1:] @ self.axes], -1)
        return boost_momenta(p, -self.gamma_beta)


def boost_momenta(p: Tensor, gamma_beta: Tensor) -> Tensor:
    """Momenta (n, L, 4) in frames that move by gamma beta = velocity (n, 3)."""
    e, q, u = p[..., :1], p[..., 1:], gamma_beta[:, None]
    gamma = (1 + (u * u).sum(-1, keepdim=True)).sqrt()
    along = (u * q).sum(-1, keepdim=True)
    return torch.cat([gamma * e - along, q + u * (along / (gamma + 1) - e)], -1)


def rest_frame(p: Tensor, *, rotate: bool) -> FrameTransform:
    """The rest frame of the sum of the constituents (T. Cheng et al., arXiv:2007.01850, section 2).

    Turned, its z is the axis to which most energy flows, the first eigenvector of sum_i E_i n_i n_i^T; x is
    the second, y completes a right-handed frame.  An axis points to where sum_i E_i c_i |c_i| is positive, c
    the cosine to it, and where that vanishes to the side of the first constituent.
    """
    total = p.sum(1)
    e, q = total[:, :1], total[:, 1:]
    square, least = (q * q).sum(1, keepdim=True), (MIN_RELATIVE_MASS * e) ** 2
    light = e * e - square < least
    gamma2 = e * e / torch.where(light, least, e * e - square).clamp_min(_TINY)
    velocity = q * ((gamma2 - 1).clamp_min(0) / square.clamp_min(_TINY)).sqrt()
    if not rotate:
        return FrameTransform(velocity, _identity_axes(p))
    own = boost_momenta(p, velocity)
    e, q = own[..., 0], own[..., 1:]
    length2 = (q * q).sum(-1)
    weight = e / length2.clamp_min(_TINY)
    norm = e.sum(1).clamp_min(_TINY)
    tensor = (q * weight[..., None]).transpose(1, 2) @ q / norm[:, None, None]
    z, x = (_orient_axis(axis, q, weight, norm) for axis in principal_axes(tensor))
    return FrameTransform(velocity, torch.stack([x, _cross_product(z, x), z], 1))


def beam_frame(p: Tensor, *, rotate: bool, boost: bool) -> FrameTransform:
    """Centred: the jet's axis at eta = phi = 0, which is x; with `boost` by one along the beam.

    So, it is told, does the code of arXiv:2007.01850, which no test here runs.  Without `boost` it is turned
    there.  With `rotate` it is then turned about x, so that sum_i E_i (eta_i, phi_i) / r_i, with r_i the
    distance from the axis, points along the beam.
    """
    total = p.sum(1)
    e, x, y, z = (total[:, k] for k in range(4))
    pt = (x * x + y * y).sqrt()
    none, one = torch.zeros_like(pt), torch.ones_like(pt)
    cos, sin = _cos_sin(x, y)
    if boost:
        rapid = z / torch.maximum(e * e - z * z, (MIN_RELATIVE_MASS * e) ** 2).clamp_min(_TINY).sqrt()
        velocity = torch.stack([none, none, rapid], 1)
        axes = _stack_matrix((cos, sin, none), (-sin, cos, none), (none, none, one))
    else:
        velocity = torch.zeros_like(total[:, 1:])
        flat, up = _cos_sin(pt, z)
        axes = _stack_matrix((flat * cos, flat * sin, up), (-sin, cos, none), (-up * cos, -up * sin, flat))
    centred = FrameTransform(velocity, axes)
    if not rotate:
        return centred
    own = centred.to_frame(p)
    eta, phi = _eta_phi(own)
    weight = own[..., 0] / (eta * eta + phi * phi).sqrt().clamp_min(_TINY)
    cos, sin = _cos_sin((weight * eta).sum(1), (weight * phi).sum(1))
    turn = _stack_matrix((one, none, none), (none, cos, -sin), (none, sin, cos))
    return FrameTransform(velocity, turn @ axes)


def principal_axes(a: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvectors (n, 3) of the largest and second eigenvalue of symmetric a (n, 3, 3); orthonormal always.

    In closed form, after D. Eberly, A Robust Eigensolver for 3x3 Symmetric Matrices: of the eigenvalues of
    (a - q)/p, which are roots of b^3 - 3 b = det, the one that stands apart is at least sqrt(3) in size and
    its eigenvector well determined; the others are a problem in the plane across.  Where eigenvalues are
    equal any of their vectors are given.
    """
    eye = torch.eye(3, dtype=a.dtype, device=a.device)
    shifted = a - (a * eye).sum((1, 2))[:, None, None] / 3 * eye
    size = ((shifted * shifted).sum((1, 2)) / 6).sqrt().clamp_min(_TINY)
    b = shifted / size[:, None, None]
    det = (b * _cofactor_matrix(b)).sum((1, 2)) / 3
    root = torch.full_like(det, 2.0)
    for _ in range(_NEWTON_STEPS):
        root = (2 * root**3 + det.abs()) / (3 * (root * root - 1))
    top = det >= 0  # whether it is the largest that stands apart, or the smallest
    vectors = _cofactor_matrix(b - torch.where(top, root, -root)[:, None, None] * eye)
    apart = _normalise(_take_rows(vectors, (vectors * eye).sum(2).abs().argmax(1)))
    # A plane across it, begun from the coordinate axis that lies the most across.
    across = _normalise(_take_rows(eye - apart[:, :, None] * apart[:, None], (apart * apart).argmin(1)))
    other = _cross_product(apart, across)
    image = (b @ torch.stack([across, other], 2)).transpose(1, 2)  # rows: b times each
    first, mixed, second = ((image[:, i] * v).sum(1) for i, v in ((0, across), (0, other), (1, other)))
    half = 0.5 * (first - second)
    reach = (half * half + mixed * mixed).sqrt()
    # From the side where nothing cancels.
    cos, sin = torch.where(half > 0, reach + half, mixed), torch.where(half > 0, mixed, reach - half)
    cos, sin = _cos_sin(cos, sin)
    larger = cos[:, None] * across + sin[:, None] * other
    smaller = _cross_product(apart, larger)
    on_top = top[:, None]
    return torch.where(on_top, apart, larger), torch.where(on_top, larger, smaller)


def _orient_axis(axis: Tensor, q: Tensor, weight: Tensor, norm: Tensor) -> Tensor:
    along = (q @ axis[:, :, None])[..., 0]
    side = (weight * along * along.abs()).sum(1)
    side = torch.where(side.abs() < SIGN_TOLERANCE * norm, along[:, 0], side)
    return torch.where((side < 0)[:, None], -axis, axis)


def _eta_phi(p: Tensor) -> tuple[Tensor, Tensor]:
    """Pseudorapidity and azimuth of momenta (n, L, 4), (n, L) each."""
    x, y, z = (p[..., k] for k in (1, 2, 3))
    pt = (x * x + y * y).sqrt().clamp_min(_TINY)
    steep = z.abs() / pt
    eta = (steep + (steep * steep + 1).sqrt()).log() * z.sign()
    cos, sin = x / pt, y / pt
    # ONNX Runtime has arcus functions in float32 alone: one step of Newton's from there.
    rough = torch.atan2(sin.float(), cos.float()).to(p.dtype)
    return eta, rough + sin * rough.cos() - cos * rough.sin()


def _cos_sin(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle of (a, b); of no vector 1 and 0."""
    length = (a * a + b * b).sqrt()
    none = length < _TINY
    length = length.clamp_min(_TINY)
    return torch.where(none, 1.0, a / length), torch.where(none, 0.0, b / length)


def _identity_axes(p: Tensor) -> Tensor:
    eye = torch.eye(3, dtype=p.dtype, device=p.device)
    return eye + 0 * p[:, 0, :3, None]


def _stack_matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def _cofactor_matrix(a: Tensor) -> Tensor:
    """Rows: the cross products of the other two rows, in cyclic order."""
    return _cross_product(_cycle_axes(a, 1), _cycle_axes(_cycle_axes(a, 1), 1))


def _cross_product(a: Tensor, b: Tensor) -> Tensor:
    return _cycle_axes(a * _cycle_axes(b, -1) - _cycle_axes(a, -1) * b, -1)


def _cycle_axes(a: Tensor, axis: int) -> Tensor:
    """Number 1, 2, 0 of three along an axis."""
    return a.index_select(axis, torch.tensor([1, 2, 0], device=a.device))


def _take_rows(a: Tensor, index: Tensor) -> Tensor:
    """Row index[i] of a[i], shape (n, 3)."""
    return a.gather(1, index[:, None, None].expand(-1, 1, 3))[:, 0]


def _normalise(v: Tensor) -> Tensor:
    return v / (v * v).sum(1, keepdim=True).sqrt().clamp_min(_TINY)


BOOSTS = ("rest", "beam", "none")
SCALES = ("robust", "standard", "none")
SCALE_PER_CHOICES = ("slot", "component")

# What no constituent exceeds; beyond it numbers would leave float32 on their way.
MAX_PT = 2e4  # GeV
MAX_ETA = 6.0  # pseudorapidity: calorimeters end at 5.2
_MAX_MASS = 1e3  # GeV
_MIN_RELATIVE_MOMENTUM = 1e-10  # of the jet's energy in the laboratory: less than this is what rounding left
_FIT_CHUNK_SIZE = 20_000  # jets that are looked at together in fit: float64 takes room


class BoostedJets(NamedTuple):
    """Jets in their frames, before scaling."""

    momenta: Tensor  # (n, length, 4): E, px, py, pz, GeV in the frame; zero where there is none
    mask: Tensor  # (n, length), bool
    is_valid: Tensor  # (n,), bool: two constituents at least that have momentum
    transform: FrameTransform  # the way back to the laboratory, float64


class ScaledJets(NamedTuple):
    """What a network is given of jets."""

    x: Tensor  # (n, length, 4), scaled
    mask: Tensor  # (n, length), bool
    momenta: Tensor  # (n, length, 4), GeV in the frame
    is_valid: Tensor  # (n,), bool: see Placed


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
        scale_per: str = "slot",
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("boost", boost, BOOSTS),
            ("scale", scale, SCALES),
            ("per", scale_per, SCALE_PER_CHOICES),
        ):
            if value not in known:
                raise InputError(f"frame: no {name} {value!r}{suggest(str(value), known)}")
        given: Any = length  # from YAML, where it may be anything
        if not isinstance(given, int) or given < 2:
            raise InputError(
                f"frame: length {length!r}; it is a whole number, and a jet has 2 constituents at least"
            )
        if not isinstance(rotate, bool):
            raise InputError(f"frame: rotate is true or false, not {rotate!r}")
        self.length, self.boost, self.rotate, self.scale, self.scale_per = (
            length,
            boost,
            rotate,
            scale,
            scale_per,
        )
        self._read_momenta = FourMomentumReader(constituents)
        rows = length if scale_per == "slot" else 1
        self.register_buffer("centre", torch.zeros(rows, 4))
        self.register_buffer("spread", torch.ones(rows, 4))

    def to_jet_frame(self, constituents: Tensor, mask: Tensor) -> BoostedJets:
        """Raw features (n, L, c) and mask (n, L) of any number L of slots, in the frame of each jet.

        Always finite.  Jets that are not `good` have a frame too, but no meaning: a constituent at rest.
        """
        # Padded before it is cut: whatever L, the graph has `length` slots behind it.
        mask = F.pad(mask.to(torch.bool), (0, self.length))[:, : self.length]
        constituents = F.pad(constituents, (0, 0, 0, self.length))[:, : self.length]
        with full_precision(constituents):
            p, pt = self._read_momenta(constituents, mask)
            if self.boost == "rest":
                pose = rest_frame(p, rotate=self.rotate)
            else:
                pose = beam_frame(p, rotate=self.rotate, boost=self.boost == "beam")
            momenta = pose.to_frame(p)
            least = _MIN_RELATIVE_MOMENTUM * p[..., 0].sum(1)[:, None, None]
            momenta = torch.where(momenta.abs() < least, 0.0, momenta).float()
        return BoostedJets(momenta, mask, (pt > 0).sum(1) > 1, pose)

    def forward(self, constituents: Tensor, mask: Tensor) -> ScaledJets:
        """Scaled four-vectors of raw features (n, L, c) with mask (n, L)."""
        momenta, mask, good, _ = self.to_jet_frame(constituents, mask)
        x = (momenta - self.centre) / self.spread
        if self.scale_per == "component":
            x = torch.where(mask[..., None], x, 0.0)
        return ScaledJets(x, mask, momenta, good)

    def unscale(self, x: Tensor) -> Tensor:
        """Momenta in GeV of scaled ones (n, length, 4); it knows of no padding, nor of a mass shell."""
        return x * self.spread + self.centre

    @torch.no_grad()
    def fit(self, constituents: Tensor, mask: Tensor, w: Tensor | None = None) -> None:
        """Set the scale from training jets, w (n,) their weights; those that are not good have no part.

        InputError where no jet is good.
        """
        parts = [
            self.to_jet_frame(c, m)
            for c, m in zip(constituents.split(_FIT_CHUNK_SIZE), mask.split(_FIT_CHUNK_SIZE), strict=True)
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
                own = self._select_component(*columns, slot=slot, component=k)
                self.centre[slot, k], self.spread[slot, k] = _centre_and_spread(
                    *own, robust=self.scale == "robust"
                )

    def _select_component(
        self, momenta: Tensor, mask: Tensor, w: Tensor, *, slot: int, component: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values, which of them are constituents, and weights."""
        if self.scale_per == "slot":
            return momenta[:, slot, component], mask[:, slot], w
        filled = momenta[..., component][mask]
        return filled, torch.ones_like(filled, dtype=torch.bool), w[:, None].expand_as(mask)[mask]


class FourMomentumReader:
    """Four-momenta from the features of constituents, by their names."""

    def __init__(self, constituents: Sequence[str]) -> None:
        names = list(constituents)
        self._is_log_pt = "pt" not in names
        pt = next((n for n in ("pt", "log_pt") if n in names), None)
        angles = next((p for p in (("eta", "phi"), ("deta", "dphi")) if set(p) <= set(names)), None)
        if pt is None or angles is None:
            raise InputError(
                "frame: four-momenta are made of pt or log_pt, of eta and phi (or deta and dphi), and of "
                f"mass, among the features of constituents; they are {', '.join(names) or 'none'}"
            )
        self._columns = [names.index(n) for n in (pt, *angles)]
        self._mass_column = names.index("mass") if "mass" in names else None

    def __call__(self, constituents: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Momenta (n, L, 4) in float64, where the device has it, and pt (n, L); zero in the padding."""
        raw = torch.where(mask[..., None], constituents, 0.0)
        raw = raw.float() if raw.device.type == "mps" else raw.double()
        pt, eta, phi = (raw[..., k] for k in self._columns)
        if self._is_log_pt:
            pt = pt.clamp(-20, 20).exp()
        pt = torch.where(mask, pt.clamp(0, MAX_PT), 0.0)
        eta, phi = eta.clamp(-MAX_ETA, MAX_ETA), phi.clamp(-4, 4)
        pz = 0.5 * pt * (eta.exp() - (-eta).exp())
        e2 = pt * pt + pz * pz
        if self._mass_column is not None:
            # A constituent without momentum is none, whatever its mass.
            mass = torch.where(pt > 0, raw[..., self._mass_column].clamp(0, _MAX_MASS), 0.0)
            e2 = e2 + mass * mass
        return torch.stack([e2.sqrt(), pt * phi.cos(), pt * phi.sin(), pz], -1), pt


def _centre_and_spread(values: Tensor, is_filled: Tensor, w: Tensor, *, robust: bool) -> tuple[float, float]:
    """What is subtracted, and by what is divided."""
    if not len(values):
        return 0.0, 1.0
    if robust:
        low, centre, high = weighted_quantiles(values, w, (0.25, 0.5, 0.75))
        spread = high - low
        if is_filled.any():
            low, _, high = weighted_quantiles(values[is_filled], w[is_filled], (0.25, 0.5, 0.75))
            if spread < 0.5 * (high - low):
                spread = high - low
    else:
        centre = float((w * values).sum() / w.sum())
        spread = float((w * (values - centre) ** 2).sum() / w.sum()) ** 0.5
    tiny = 1e-9 + 1e-6 * abs(centre)  # float32 noise on a constant is no spread
    return centre, spread if spread > tiny else 1.0


def weighted_quantiles(values: Tensor, w: Tensor, probabilities: Sequence[float]) -> list[float]:
    """Weighted quantiles (n,) -> one for each of `at`; of equal weights those of numpy."""
    values, order = values.sort()
    w = w[order]
    # The middle of each event's weight, from 0 at the first to 1 at the last.
    place = w.cumsum(0) - 0.5 * w
    place = (place - place[0]) / (place[-1] - place[0]).clamp_min(1e-300)
    wanted = torch.tensor(list(probabilities), dtype=place.dtype, device=place.device)
    high = torch.searchsorted(place, wanted).clamp(1, max(1, len(values) - 1)).clamp_max(len(values) - 1)
    low = (high - 1).clamp_min(0)
    part = ((wanted - place[low]) / (place[high] - place[low]).clamp_min(1e-300)).clamp(0, 1)
    return [float(v) for v in values[low] + part * (values[high] - values[low])]
