"""What a jet comes from, by what the generator knows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.jets.clustering import Jets
from hepdecorr.samples.jets.generation import Batch, Floats, Particles

# In units of the jet's R.
NEAR = 0.8


class Origin(NamedTuple):
    """Of each jet.

    flavour: PDG code of the resonance (QCD: outgoing parton) nearest in (eta, phi), if it flies within
    0.8 R of the jet, else 0; quarks: how many of the quarks this resonance decays to are within 0.8 R, at
    most 2 for W and Z, 3 for top, 4 for H; 0 for QCD, where nothing decays.
    """

    flavour: NDArray[np.int32]
    quarks: NDArray[np.int32]


def origin(jets: Jets, batch: Batch, *, radius: float) -> Origin:
    """Match the jets of a batch."""
    jet, resonance = pairs(jets.event, batch.resonances.event)
    away = distance(jets, batch.resonances, jet=jet, particle=resonance)
    order = np.lexsort((away, jet))
    _, first = np.unique(jet[order], return_index=True)
    best = order[first]
    best = best[away[best] < NEAR * radius]
    nearest = np.full(len(jets.event), -1)
    nearest[jet[best]] = resonance[best]

    flavour = np.zeros(len(jets.event), dtype=np.int32)
    flavour[jet[best]] = batch.resonances.id[resonance[best]]
    jet, quark = pairs(jets.event, batch.quarks.event)
    inside = distance(jets, batch.quarks, jet=jet, particle=quark) < NEAR * radius
    own = inside & (batch.parent[quark] == nearest[jet])
    return Origin(flavour, np.bincount(jet[own], minlength=len(flavour)).astype(np.int32))


def pairs(one: NDArray[np.int64], other: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of all pairs in the same event, of two columns of events; `other` need not be in order."""
    order = np.argsort(other, kind="stable")
    start = np.searchsorted(other[order], one, side="left")
    partners = np.searchsorted(other[order], one, side="right") - start
    first = np.repeat(np.arange(len(one)), partners)
    within = np.arange(len(first)) - np.repeat(np.cumsum(partners) - partners, partners)
    return first, order[np.repeat(start, partners) + within]


def distance(
    jets: Jets, particles: Particles, *, jet: NDArray[np.int64], particle: NDArray[np.int64]
) -> Floats:
    """Delta R in (eta, phi) of pairs."""
    px, py, pz = particles.p4[particle, :3].T
    eta = np.arcsinh(pz / np.maximum(np.hypot(px, py), 1e-6))
    dphi = (jets.phi[jet] - np.arctan2(py, px) + np.pi) % (2 * np.pi) - np.pi
    return np.asarray(np.hypot(jets.eta[jet] - eta, dphi))
