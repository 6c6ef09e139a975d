"""Frames in which jets are looked at: how each moves and lies in the laboratory, and the way back from it.

Four-momenta are (n, L, 4), energy and x, y, z, zero where there is no constituent.  Everything is made of
what ONNX has in float64: in float32 a light jet's mass would be gone, and nearly round jets would be turned
differently by torch and by ONNX Runtime.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LIGHT = (
    1e-4  # jets of less mass, relative to their energy, are boosted as of this one (as features rest_* are)
)
EVEN = (
    1e-9  # relative to the sum of energies: below this rounding would choose the side that an axis points to
)
_TINY = 1e-30  # nothing is divided by less
_NEWTON = 6  # steps to the root: each squares an error that is 0.27 before the first


class Pose(NamedTuple):
    """The frame of each jet, as the laboratory sees it."""

    velocity: Tensor  # (n, 3): gamma times beta
    axes: Tensor  # (n, 3, 3): x, y and z of the frame as rows, among those of the boosted laboratory

    def into(self, p: Tensor) -> Tensor:
        """Momenta of the laboratory (n, L, 4) in the frame."""
        p = boosted(p, self.velocity)
        return torch.cat([p[..., :1], p[..., 1:] @ self.axes.transpose(1, 2)], -1)

    def back(self, p: Tensor) -> Tensor:
        """Momenta of the frame (n, L, 4) in the laboratory."""
        p = torch.cat([p[..., :1], p[..., 1:] @ self.axes], -1)
        return boosted(p, -self.velocity)


def boosted(p: Tensor, velocity: Tensor) -> Tensor:
    """Momenta (n, L, 4) in frames that move by gamma beta = velocity (n, 3)."""
    e, q, u = p[..., :1], p[..., 1:], velocity[:, None]
    gamma = (1 + (u * u).sum(-1, keepdim=True)).sqrt()
    along = (u * q).sum(-1, keepdim=True)
    return torch.cat([gamma * e - along, q + u * (along / (gamma + 1) - e)], -1)


def at_rest(p: Tensor, *, rotate: bool) -> Pose:
    """The rest frame of the sum of the constituents (T. Cheng et al., arXiv:2007.01850, section 2).

    Turned, its z is the axis to which most energy flows, the first eigenvector of sum_i E_i n_i n_i^T; x is
    the second, y completes a right-handed frame.  An axis points to where sum_i E_i c_i |c_i| is positive, c
    the cosine to it, and where that vanishes to the side of the first constituent.
    """
    total = p.sum(1)
    e, q = total[:, :1], total[:, 1:]
    square, least = (q * q).sum(1, keepdim=True), (LIGHT * e) ** 2
    light = e * e - square < least
    gamma2 = e * e / torch.where(light, least, e * e - square).clamp_min(_TINY)
    velocity = q * ((gamma2 - 1).clamp_min(0) / square.clamp_min(_TINY)).sqrt()
    if not rotate:
        return Pose(velocity, _untouched(p))
    own = boosted(p, velocity)
    e, q = own[..., 0], own[..., 1:]
    length2 = (q * q).sum(-1)
    weight = e / length2.clamp_min(_TINY)
    norm = e.sum(1).clamp_min(_TINY)
    tensor = (q * weight[..., None]).transpose(1, 2) @ q / norm[:, None, None]
    z, x = (_pointed(axis, q, weight, norm) for axis in principal_axes(tensor))
    return Pose(velocity, torch.stack([x, _cross(z, x), z], 1))


def along_beam(p: Tensor, *, rotate: bool, boost: bool) -> Pose:
    """Centred: the jet's axis at eta = phi = 0, which is x; with `boost` by one along the beam.

    So, it is told, does the code of arXiv:2007.01850, which no test here runs.  Without `boost` it is turned
    there.  With `rotate` it is then turned about x, so that sum_i E_i (eta_i, phi_i) / r_i, with r_i the
    distance from the axis, points along the beam.
    """
    total = p.sum(1)
    e, x, y, z = (total[:, k] for k in range(4))
    pt = (x * x + y * y).sqrt()
    none, one = torch.zeros_like(pt), torch.ones_like(pt)
    cos, sin = _direction(x, y)
    if boost:
        rapid = z / torch.maximum(e * e - z * z, (LIGHT * e) ** 2).clamp_min(_TINY).sqrt()
        velocity = torch.stack([none, none, rapid], 1)
        axes = _matrix((cos, sin, none), (-sin, cos, none), (none, none, one))
    else:
        velocity = torch.zeros_like(total[:, 1:])
        flat, up = _direction(pt, z)
        axes = _matrix((flat * cos, flat * sin, up), (-sin, cos, none), (-up * cos, -up * sin, flat))
    centred = Pose(velocity, axes)
    if not rotate:
        return centred
    own = centred.into(p)
    eta, phi = _angles(own)
    weight = own[..., 0] / (eta * eta + phi * phi).sqrt().clamp_min(_TINY)
    cos, sin = _direction((weight * eta).sum(1), (weight * phi).sum(1))
    turn = _matrix((one, none, none), (none, cos, -sin), (none, sin, cos))
    return Pose(velocity, turn @ axes)


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
    det = (b * _cofactors(b)).sum((1, 2)) / 3
    root = torch.full_like(det, 2.0)
    for _ in range(_NEWTON):
        root = (2 * root**3 + det.abs()) / (3 * (root * root - 1))
    top = det >= 0  # whether it is the largest that stands apart, or the smallest
    vectors = _cofactors(b - torch.where(top, root, -root)[:, None, None] * eye)
    apart = _unit(_row(vectors, (vectors * eye).sum(2).abs().argmax(1)))
    # A plane across it, begun from the coordinate axis that lies the most across.
    across = _unit(_row(eye - apart[:, :, None] * apart[:, None], (apart * apart).argmin(1)))
    other = _cross(apart, across)
    image = (b @ torch.stack([across, other], 2)).transpose(1, 2)  # rows: b times each
    first, mixed, second = ((image[:, i] * v).sum(1) for i, v in ((0, across), (0, other), (1, other)))
    half = 0.5 * (first - second)
    reach = (half * half + mixed * mixed).sqrt()
    # From the side where nothing cancels.
    cos, sin = torch.where(half > 0, reach + half, mixed), torch.where(half > 0, mixed, reach - half)
    cos, sin = _direction(cos, sin)
    larger = cos[:, None] * across + sin[:, None] * other
    smaller = _cross(apart, larger)
    on_top = top[:, None]
    return torch.where(on_top, apart, larger), torch.where(on_top, larger, smaller)


def _pointed(axis: Tensor, q: Tensor, weight: Tensor, norm: Tensor) -> Tensor:
    along = (q @ axis[:, :, None])[..., 0]
    side = (weight * along * along.abs()).sum(1)
    side = torch.where(side.abs() < EVEN * norm, along[:, 0], side)
    return torch.where((side < 0)[:, None], -axis, axis)


def _angles(p: Tensor) -> tuple[Tensor, Tensor]:
    """Pseudorapidity and azimuth of momenta (n, L, 4), (n, L) each."""
    x, y, z = (p[..., k] for k in (1, 2, 3))
    pt = (x * x + y * y).sqrt().clamp_min(_TINY)
    steep = z.abs() / pt
    eta = (steep + (steep * steep + 1).sqrt()).log() * z.sign()
    cos, sin = x / pt, y / pt
    # ONNX Runtime has arcus functions in float32 alone: one step of Newton's from there.
    rough = torch.atan2(sin.float(), cos.float()).to(p.dtype)
    return eta, rough + sin * rough.cos() - cos * rough.sin()


def _direction(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle of (a, b); of no vector 1 and 0."""
    length = (a * a + b * b).sqrt()
    none = length < _TINY
    length = length.clamp_min(_TINY)
    return torch.where(none, 1.0, a / length), torch.where(none, 0.0, b / length)


def _untouched(p: Tensor) -> Tensor:
    eye = torch.eye(3, dtype=p.dtype, device=p.device)
    return eye + 0 * p[:, 0, :3, None]


def _matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def _cofactors(a: Tensor) -> Tensor:
    """Rows: the cross products of the other two rows, in cyclic order."""
    return _cross(_next(a, 1), _next(_next(a, 1), 1))


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return _next(a * _next(b, -1) - _next(a, -1) * b, -1)


def _next(a: Tensor, axis: int) -> Tensor:
    """Number 1, 2, 0 of three along an axis."""
    return a.index_select(axis, torch.tensor([1, 2, 0], device=a.device))


def _row(a: Tensor, index: Tensor) -> Tensor:
    """Row index[i] of a[i], shape (n, 3)."""
    return a.gather(1, index[:, None, None].expand(-1, 1, 3))[:, 0]


def _unit(v: Tensor) -> Tensor:
    return v / (v * v).sum(1, keepdim=True).sqrt().clamp_min(_TINY)
