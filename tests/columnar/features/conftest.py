"""Made events: momenta are given in the CM frame and stored as a detector would, in the lab."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import awkward as ak
import numpy as np
import pytest

K_MASS, PI_MASS = 0.493677, 0.13957039
SQRT_S = 10.58


def to_lab(momentum, mass, beta):
    """Boost CM momenta (n, 3) by beta: the textbook matrix, not the formula under test."""
    momentum, beta = np.atleast_2d(np.asarray(momentum, float)).reshape(-1, 3), np.asarray(beta, float)
    energy = np.sqrt((momentum**2).sum(axis=1) + np.asarray(mass) ** 2)
    b2 = beta @ beta
    if b2 == 0:
        return momentum
    gamma = 1 / np.sqrt(1 - b2)
    matrix = np.empty((4, 4))
    matrix[0, 0], matrix[0, 1:], matrix[1:, 0] = gamma, gamma * beta, gamma * beta
    matrix[1:, 1:] = np.eye(3) + (gamma - 1) * np.outer(beta, beta) / b2
    return (np.column_stack([energy, momentum]) @ matrix.T)[:, 1:]


def polar(momentum):
    pt = np.hypot(momentum[:, 0], momentum[:, 1])
    eta = np.arcsinh(momentum[:, 2] / np.where(pt > 0, pt, 1.0))
    return {"pt": pt, "eta": eta, "phi": np.arctan2(momentum[:, 1], momentum[:, 0])}


def make_events(listed: list[dict[str, Any]], *, beta=(0.0, 0.0, 0.0), sqrt_s: float = SQRT_S) -> ak.Array:
    """One event for each {tracks: (n, 3), photons: (m, 3)} with optional mass, charge, pdgId, k, pi, g."""
    rows = {"Track": [], "Photon": [], "Bcand": [], "Beam": []}
    for i, given in enumerate(listed):
        tracks, photons = np.reshape(given["tracks"], (-1, 3)), np.reshape(given["photons"], (-1, 3))
        k, pi, g = given.get("k", 0), given.get("pi", 1), given.get("g", 0)
        mass = np.array(given.get("mass", np.full(len(tracks), PI_MASS)), float)
        charge = np.asarray(given.get("charge", (-1) ** np.arange(len(tracks))))
        pdg = np.asarray(given.get("pdgId", 211 * charge))
        true = mass.copy()
        true[[k, pi]] = K_MASS, PI_MASS
        track = polar(to_lab(tracks, true, beta)) | {"mass": mass, "charge": charge, "pdgId": pdg}
        photon = polar(to_lab(photons, np.zeros(len(photons)), beta)) | {"mass": np.zeros(len(photons))}
        rows["Track"].append(track)
        rows["Photon"].append(photon)
        stored = {"mbc": 5.21, "mbcCorr": 5.22, "deltaE": 0.1 * i, "pStar": 0.5, "EgStar": 2.5, "mKst": 0.9}
        veto = {"mPi0": -1.0, "mEta": 0.5, "mult": 1}
        rows["Bcand"].append(stored | veto | {"kIdx": k, "piIdx": pi, "gIdx": g})
        boost = dict(zip(("boostX", "boostY", "boostZ"), beta, strict=True))
        rows["Beam"].append({"EStar": sqrt_s / 2, "sqrtS": sqrt_s} | boost)
    out = {"run": np.arange(len(listed))}
    for name in ("Bcand", "Beam"):
        out[name] = ak.zip({f: np.array([r[f] for r in rows[name]]) for f in rows[name][0]})
    for name in ("Track", "Photon"):
        lengths = [len(r["pt"]) for r in rows[name]]
        flat = ak.zip({f: np.concatenate([r[f] for r in rows[name]]) for f in rows[name][0]})
        out[name] = ak.unflatten(flat, lengths)
    return ak.zip(out, depth_limit=1)


def random_momenta(seed: int, *, tracks: int, photons: int) -> dict[str, Any]:
    """A generic event: no two momenta alike, none along another."""
    rng = np.random.default_rng(seed)
    return {
        "tracks": rng.normal(size=(tracks, 3)),
        "photons": rng.normal(size=(photons, 3)),
        "mass": rng.choice([PI_MASS, K_MASS, 0.000511], size=tracks),
        "charge": rng.choice([-1, 1], size=tracks),
        "pdgId": rng.choice([211, -211, 321, 11, -13], size=tracks),
        "k": (k := int(rng.integers(tracks))),
        "pi": (k + 1) % tracks,
        "g": int(rng.integers(photons)),
    }


@pytest.fixture(scope="session")
def made() -> Callable[..., ak.Array]:
    return make_events


@pytest.fixture(scope="session")
def generic() -> Callable[..., dict[str, Any]]:
    return random_momenta


@pytest.fixture(scope="session")
def forty() -> list[dict[str, Any]]:
    """Forty generic events of many sizes, from the candidate alone to thirty particles."""
    rng = np.random.default_rng(7)
    sizes = [
        (2, 1),
        (2, 2),
        (3, 1),
        *((int(rng.integers(2, 14)), int(rng.integers(1, 18))) for _ in range(37)),
    ]
    return [random_momenta(i, tracks=t, photons=g) for i, (t, g) in enumerate(sizes)]


@pytest.fixture(scope="session")
def apart() -> Callable[[dict[str, Any]], tuple[np.ndarray, np.ndarray]]:
    """Candidate's and other momenta of a given event, with charges as a fourth column, in CM."""

    def split(given):
        charge = np.column_stack([given["tracks"], given["charge"]])
        neutral = np.column_stack([given["photons"], np.zeros(len(given["photons"]))])
        ours = np.stack([charge[given["k"]], charge[given["pi"]], neutral[given["g"]]])
        others = [
            np.delete(charge, [given["k"], given["pi"]], axis=0),
            np.delete(neutral, given["g"], axis=0),
        ]
        return ours, np.concatenate(others)

    return split
