"""Rows of jets made of given constituents, without a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import awkward as ak
import numpy as np

from hepdecorr.columnar import objects

PION = 0.13957


def rows(
    jets: Sequence[Any], *, radius: float | None = 1.0, collection: str = "FatJet", **branches: Any
) -> Any:
    """One row for each jet, given as an array (constituents, 4) of pt, eta, phi, mass; two jets an event.

    The jet's own four-momentum is the constituents' sum; `branches` add or replace branches of the jet.
    """
    jets = [np.asarray(jet, float).reshape(-1, 4) for jet in jets]
    per_event = np.diff(np.append(np.arange(0, len(jets), 2), len(jets)))
    lengths = np.array([len(jet) for jet in jets])
    each = np.add.reduceat(lengths, np.arange(0, len(jets), 2))
    flat = np.concatenate(jets)
    table = ak.zip(
        dict(zip(("pt", "eta", "phi", "mass"), flat.T, strict=True)) | {"pdgId": np.full(len(flat), 211)}
    )
    links = ak.zip(
        {
            "jetIdx": np.repeat(np.arange(len(jets)) % 2, lengths),
            "pFCandsIdx": np.concatenate([np.arange(n) for n in each]),
        }
    )
    own = four_momenta(jets) | branches
    events = {
        "event": np.arange(len(per_event)),
        collection: ak.unflatten(ak.zip({k: np.asarray(v) for k, v in own.items()}), per_event),
        "PFCands": ak.unflatten(table, each),
        f"{collection}PFCands": ak.unflatten(links, each),
    }
    spec = {"collection": collection} | ({} if radius is None else {"radius": radius})
    return objects.rows(ak.zip(events, depth_limit=1), spec)


def cartesian(jet: Any) -> Any:
    """pt, eta, phi, mass -> px, py, pz, e, shape (constituents, 4)."""
    pt, eta, phi, mass = np.asarray(jet, float).reshape(-1, 4).T
    p = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1)
    return np.column_stack([p, np.sqrt((p**2).sum(axis=1) + mass**2)])


def polar(momenta: Any) -> Any:
    """px, py, pz, e -> pt, eta, phi, mass, shape (constituents, 4)."""
    x, y, z, e = np.asarray(momenta, float).T
    pt = np.hypot(x, y)
    mass = np.sqrt(np.maximum(e**2 - x**2 - y**2 - z**2, 0))
    return np.column_stack([pt, np.arcsinh(z / pt), np.arctan2(y, x), np.where(mass < 1e-4 * e, 0, mass)])


def four_momenta(jets: Sequence[Any]) -> dict[str, Any]:
    sums = np.array([cartesian(jet).sum(axis=0) for jet in jets])
    x, y, z, e = sums.T
    pt = np.hypot(x, y)
    mass = np.sqrt(np.maximum(e**2 - x**2 - y**2 - z**2, 0))
    eta = np.arcsinh(np.divide(z, pt, out=np.zeros_like(z), where=pt > 0))
    return {"pt": np.where(pt > 0, pt, 1.0), "eta": eta, "phi": np.arctan2(y, x), "mass": mass}


def boosted(momenta: Any, velocity: Any) -> Any:
    """The textbook matrix, on px, py, pz, e."""
    b = np.asarray(velocity, float)
    gamma = 1 / np.sqrt(1 - b @ b)
    matrix = np.empty((4, 4))
    matrix[3, 3], matrix[3, :3], matrix[:3, 3] = gamma, gamma * b, gamma * b
    matrix[:3, :3] = np.eye(3) + (gamma - 1) * np.outer(b, b) / (b @ b)
    return np.asarray(momenta, float) @ matrix.T


def generic(seed: int, n: int, *, mass: float = PION, centre: tuple[float, float] = (0.7, 2.9)) -> Any:
    """A jet of n constituents of falling pt, about a centre from which some reach over phi = pi."""
    rng = np.random.default_rng(seed)
    pt = np.sort(rng.exponential(size=n) ** 2 * 40 + 0.5)[::-1]
    eta, phi = np.array(centre)[:, np.newaxis] + rng.normal(0, 0.25, (2, n))
    phi = (phi + np.pi) % (2 * np.pi) - np.pi
    return np.column_stack([pt, eta, phi, np.full(n, mass) * rng.integers(0, 2, n)])
