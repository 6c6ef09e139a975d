"""Which resonance a jet comes from, and how many of its quarks it holds, on hand-made events."""

from __future__ import annotations

import numpy as np

from hepdecorr.samples.jets.clustering import Jets
from hepdecorr.samples.jets.generation import Batch, Particles
from hepdecorr.samples.jets.truth import origin


def at(*places: tuple[int, int, float, float]) -> Particles:
    """Particles of event, PDG code, eta, phi; 100 GeV each."""
    event, code, eta, phi = (np.array(x) for x in zip(*places, strict=True)) if places else (np.zeros(0),) * 4
    p4 = np.column_stack([100 * np.cos(phi), 100 * np.sin(phi), 100 * np.sinh(eta), 100 * np.cosh(eta)])
    return Particles(event.astype(np.int64), code.astype(np.int32), p4)


def jets(*places: tuple[int, float, float]) -> Jets:
    """Jets of event, eta, phi."""
    event, eta, phi = (np.array(x) for x in zip(*places, strict=True))
    nothing = np.zeros(len(event))
    return Jets(
        event.astype(np.int64),
        np.zeros((len(event), 4)),
        *(nothing + 500, eta, phi, nothing + 80),
        np.zeros(len(event), np.int64),
        np.zeros(0, np.int64),
    )


def batch(resonances: Particles, quarks: Particles, parent: list[int]) -> Batch:
    return Batch(at(), resonances, quarks, np.array(parent, np.int64), np.ones(3), np.zeros(3))


def test_the_nearest_resonance_and_its_own_quarks_count() -> None:
    resonances = at((0, 24, 0.0, 0.0), (0, 23, 0.0, 3.1), (2, -24, 1.0, 1.0))
    quarks = at(
        *[(0, 1, 0.2, 0.1), (0, -2, -0.3, -0.2)],
        # One quark of the Z far out, the other near the W: it is not the W's.
        *[(0, 3, 0.1, 3.1), (0, -3, 0.1, 0.1)],
        *[(2, 4, 1.0, 1.7), (2, -3, 1.0, 0.1)],
    )
    made = batch(resonances, quarks, [0, 0, 1, 1, 2, 2])
    # The second jet's Z lies across phi = pi; event 1 has a jet and no resonance; the last jet is far off.
    found = origin(
        jets((0, 0.0, 0.0), (0, 0.1, -3.1), (1, 0.0, 0.0), (2, 1.0, 1.0), (2, 1.0, -2.0)), made, radius=1.0
    )
    assert found.flavour.tolist() == [24, 23, 0, -24, 0]
    assert found.quarks.tolist() == [2, 1, 0, 1, 0]
    narrow = origin(jets((0, 0.0, 0.0), (0, 0.1, -3.1)), made, radius=0.4)
    assert narrow.quarks.tolist() == [1, 1]


def test_the_distance_scales_with_the_radius() -> None:
    made = batch(at((0, 6, 0.0, 0.0)), at((0, 5, 0.0, 0.0)), [0])
    for radius, distance, expected in ((1.0, 0.79, 6), (1.0, 0.81, 0), (0.5, 0.41, 0), (0.5, 0.39, 6)):
        found = origin(jets((0, distance, 0.0)), made, radius=radius)
        assert found.flavour.tolist() == [expected]
        assert found.quarks.tolist() == [int(expected != 0)]


def test_without_decays_there_are_no_quarks_to_match() -> None:
    found = origin(jets((0, 0.0, 0.0)), batch(at((0, 21, 0.1, 0.0)), at(), []), radius=1.0)
    assert found.flavour.tolist() == [21]
    assert found.quarks.tolist() == [0]
