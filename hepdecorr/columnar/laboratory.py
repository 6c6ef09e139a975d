"""Jets from the frame in which an autoencoder sees them back to the laboratory.

Momenta are (jets, L, 4): E, px, py, pz, zero where there is no constituent.  How a jet lies in its frame is
read from the jet itself, which is known in both: the boost from the sum of its constituents, and the turn as
the one that takes its boosted constituents to where the tagger's graph has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr.errors import InputError

Floats = NDArray[np.float64]

BOOSTS = ("rest", "beam", "none")
_LIGHT = 1e-4  # mass over energy below which a jet is boosted as of this one, as in the graph
_AGREE = 1e-3  # of a jet's energy in the frame: how well the momenta there must be found again
_TINY = 1e-30


class Pose(NamedTuple):
    """The frame of each jet, as the laboratory sees it."""

    velocity: Floats  # (jets, 3): gamma times beta
    turn: Floats  # (jets, 3, 3): what takes vectors of the boosted laboratory into the frame

    def back(self, p: Floats) -> Floats:
        """Momenta of the frame in the laboratory."""
        return boosted(np.concatenate([p[..., :1], p[..., 1:] @ self.turn], axis=-1), -self.velocity)


def four_momenta(
    constituents: NDArray[np.float32], mask: NDArray[np.float32], names: Sequence[str]
) -> Floats:
    """Momenta of the laboratory from the raw features of constituents (jets, L, c) and their mask (jets, L).

    names: of the features, among them pt or log_pt, eta and phi or deta and dphi, and mass if there is one.
    From deta and dphi the jet's axis lies at eta = phi = 0.
    """
    column = {name: constituents[..., k].astype(np.float64) for k, name in enumerate(names)}
    pt = column["pt"] if "pt" in column else np.exp(column["log_pt"])
    eta, phi = (column[n] if {"eta", "phi"} <= set(names) else column[f"d{n}"] for n in ("eta", "phi"))
    pt = np.where(mask > 0, pt, 0.0)
    mass = np.where(pt > 0, column.get("mass", np.zeros_like(pt)), 0.0)
    pz = pt * np.sinh(eta)
    return np.stack([np.sqrt(pt**2 + pz**2 + mass**2), pt * np.cos(phi), pt * np.sin(phi), pz], axis=-1)


def boosted(p: Floats, velocity: Floats) -> Floats:
    """Momenta in frames that move by gamma beta = velocity (jets, 3)."""
    u = velocity[:, None]
    gamma = np.sqrt(1 + np.square(u).sum(axis=-1, keepdims=True))
    along = (u * p[..., 1:]).sum(axis=-1, keepdims=True)
    q = p[..., 1:] + u * (along / (gamma + 1) - p[..., :1])
    return np.concatenate([gamma * p[..., :1] - along, q], axis=-1)


def poses(p: Floats, framed: NDArray[np.float32], *, boost: str) -> Pose:
    """From jets in the laboratory and the same in their frames; boost as of JetFrame.

    The turn is the rotation that is nearest to taking the one to the other (Kabsch, Acta Cryst. A32 (1976)
    922); InputError where it does not, so that a wrong boost cannot pass.
    """
    velocity = _velocity(p.sum(axis=1), boost)
    rest = boosted(p, velocity)[..., 1:]
    u, _, v = np.linalg.svd(np.einsum("nli,nlj->nij", framed[..., 1:].astype(np.float64), rest))
    handed = np.linalg.det(u @ v)
    turn = (u * np.stack([np.ones_like(handed), np.ones_like(handed), handed], axis=-1)[:, None]) @ v
    off = np.abs(rest @ turn.transpose(0, 2, 1) - framed[..., 1:]).max(axis=(1, 2), initial=0.0)
    scale = framed[..., 0].sum(axis=1) + _LIGHT * p[..., 0].sum(axis=1) + _TINY
    if len(p) and (off > _AGREE * scale).any():
        raise InputError(
            f"{int((off > _AGREE * scale).sum())} of {len(p)} jets are not in the frame {boost!r} what they "
            "are in the laboratory; was the tagger trained on these features, by this version?"
        )
    return Pose(velocity, turn)


def launched(p: Floats, pose: Pose, like: Floats) -> Floats:
    """Jets at rest, p (jets, L, 4), in the laboratory, where each has the momentum like (jets, 3).

    At rest nothing is known of how fast a jet flies, and the velocity of a jet of another mass would make one
    of another pT.  So each takes the turn of a pose, and of `like` the momentum, with a mass of its own.
    """
    turned = np.concatenate([p[..., :1], p[..., 1:] @ pose.turn], axis=-1)
    # What is made is at rest only nearly.
    still = boosted(turned, _velocity(turned.sum(axis=1), "rest"))
    size = np.linalg.norm(like, axis=1)
    mass = np.maximum(mass_of(still.sum(axis=1)), _LIGHT * size)
    return boosted(still, -like / np.maximum(mass, _TINY)[:, None])


def on_shell(p: Floats) -> Floats:
    """The same momenta with the energies of massless particles: a decoder knows of no mass shell."""
    return np.concatenate([np.linalg.norm(p[..., 1:], axis=-1, keepdims=True), p[..., 1:]], axis=-1)


def mass_of(total: Floats) -> Floats:
    """Invariant mass of four-momenta (..., 4), 0 where rounding makes its square negative."""
    square = total[..., 0] ** 2 - np.square(total[..., 1:]).sum(axis=-1)
    return np.asarray(np.sqrt(np.maximum(square, 0.0)))


def _velocity(total: Floats, boost: str) -> Floats:
    if boost not in BOOSTS:
        raise InputError(f"boost {boost!r}; it is rest, beam or none")
    e, q = total[:, :1], total[:, 1:].copy()
    if boost == "none":
        return np.zeros_like(q)
    if boost == "beam":
        q[:, :2] = 0.0
    square = np.square(q).sum(axis=1, keepdims=True)
    least = (_LIGHT * e) ** 2
    light = e**2 - square < least
    gamma2 = e**2 / np.maximum(np.where(light, least, e**2 - square), _TINY)
    return np.asarray(q * np.sqrt(np.maximum(gamma2 - 1, 0) / np.maximum(square, _TINY)))
