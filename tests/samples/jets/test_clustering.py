"""Jets against FastJet's own objects, softdrop against declustering by hand, tau against its formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from hepdecorr.samples.jets.clustering import ETA_MAX, Jets, cluster, substructure
from hepdecorr.samples.jets.detector import Candidates

pytestmark = pytest.mark.usefixtures("fastjet")


def candidates(events: int, *, seed: int = 3) -> Candidates:
    """Events of two back-to-back sprays, each of three prongs, over a soft floor."""
    rng = np.random.default_rng(seed)
    parts = []
    for event in range(events):
        eta, phi, pt = (
            [rng.uniform(-2.5, 2.5, 40)],
            [rng.uniform(-np.pi, np.pi, 40)],
            [rng.exponential(1, 40)],
        )
        for axis in (0.3, 0.3 - np.pi):
            centre = rng.uniform(-1.8, 1.8)
            for _ in range(3):
                eta.append(rng.normal(centre + rng.normal(0, 0.4), 0.08, 12))
                phi.append(rng.normal(axis + rng.normal(0, 0.4), 0.08, 12))
                pt.append(rng.exponential(22, 12))
        columns = [np.concatenate(x) for x in (pt, eta, phi)]
        parts.append(np.column_stack([np.full(len(columns[0]), event), *columns]))
    event, pt, eta, phi = np.concatenate(parts).T
    count = len(event)
    return Candidates(
        event.astype(np.int64),
        pt.astype(np.float32),
        eta.astype(np.float32),
        ((phi + np.pi) % (2 * np.pi) - np.pi).astype(np.float32),
        np.full(count, 0.13957, np.float32),
        np.full(count, 211, np.int32),
        np.ones(count, np.int32),
    )


def pseudojets(p4: np.ndarray) -> list:
    import fastjet

    return [fastjet.PseudoJet(*map(float, row)) for row in p4]


def inclusive(p4: np.ndarray, *, radius: float, pt_min: float) -> list[tuple[float, ...]]:
    """Jets of one event by FastJet's classic interface."""
    import fastjet

    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    sequence = fastjet.ClusterSequence(pseudojets(p4), definition)
    found = fastjet.sorted_by_pt(sequence.inclusive_jets(pt_min))
    return [
        (jet.pt(), jet.eta(), jet.phi_std(), jet.m(), len(jet.constituents()))
        for jet in found
        if abs(jet.eta()) < ETA_MAX
    ]


@pytest.mark.parametrize("radius", [1.0, 0.5])
def test_jets_are_those_of_fastjet(radius: float) -> None:
    given = candidates(6)
    jets = cluster(given, events=8, radius=radius, pt_min=150.0)
    assert len(jets.event) > 6
    for event in range(8):
        expected = inclusive(given.take(given.event == event).p4(), radius=radius, pt_min=150.0)
        rows = jets.event == event
        found = np.column_stack(
            [x[rows] for x in (jets.pt, jets.eta, jets.phi, jets.mass, jets.multiplicity)]
        )
        np.testing.assert_allclose(found, np.array(expected).reshape(-1, 5), rtol=1e-6, atol=1e-6)


def test_a_jet_is_the_sum_of_its_constituents_hardest_first() -> None:
    given = candidates(5)
    jets = cluster(given, events=5, radius=1.0, pt_min=150.0)
    jet = np.repeat(np.arange(len(jets.event)), jets.multiplicity)
    assert len(set(jets.constituents.tolist())) == len(jets.constituents) == jets.multiplicity.sum()
    np.testing.assert_array_equal(given.event[jets.constituents], jets.event[jet])
    total = np.zeros((len(jets.event), 4))
    np.add.at(total, jet, given.p4()[jets.constituents])
    np.testing.assert_allclose(total, jets.p4, rtol=1e-12)
    pt = given.pt[jets.constituents]
    assert (np.diff(pt)[np.diff(jet) == 0] <= 0).all()
    assert (np.diff(jets.pt)[np.diff(jets.event) == 0] <= 0).all()
    assert (np.diff(jets.event) >= 0).all()


def softdrop_mass(p4: np.ndarray, *, zcut: float = 0.1) -> float:
    """Declustering of one C/A jet by hand, for beta = 0."""
    import fastjet

    sequence = fastjet.ClusterSequence(
        pseudojets(p4), fastjet.JetDefinition(fastjet.cambridge_algorithm, 10.0)
    )
    jet = sequence.inclusive_jets()[0]
    one, other = fastjet.PseudoJet(), fastjet.PseudoJet()
    while jet.has_parents(one, other):
        if min(one.pt(), other.pt()) > zcut * (one.pt() + other.pt()):
            break
        jet = fastjet.PseudoJet(one if one.pt() > other.pt() else other)
    return float(jet.m())


def tau(given: Candidates, axes: np.ndarray, *, radius: float) -> float:
    """N-subjettiness at given axes (n, 2) of eta and phi; the candidates are massless enough."""
    pt = given.pt.astype(float)
    dphi = (given.phi[:, None] - axes[:, 1] + np.pi) % (2 * np.pi) - np.pi
    distance = np.hypot(given.eta[:, None] - axes[:, 0], dphi)
    return float((pt * distance.min(axis=1)).sum() / (pt.sum() * radius))


def jet_parts(jets: Jets, given: Candidates) -> list[Candidates]:
    ends = np.cumsum(jets.multiplicity)
    return [given.take(jets.constituents[a:b]) for a, b in zip(ends - jets.multiplicity, ends, strict=True)]


def test_softdrop_is_that_of_declustering_by_hand() -> None:
    given = candidates(8)
    jets = cluster(given, events=8, radius=1.0, pt_min=150.0)
    shapes = substructure(jets, given, radius=1.0)
    expected = [softdrop_mass(part.p4()) for part in jet_parts(jets, given)]
    np.testing.assert_allclose(shapes.softdrop, expected, rtol=1e-5, atol=1e-4)
    # The soft floor goes.
    assert (shapes.softdrop <= jets.mass + 1e-6).all()
    assert (shapes.softdrop < 0.98 * jets.mass).any()


@pytest.mark.parametrize("radius", [1.0, 0.8])
def test_tau_is_the_minimum_over_axes(radius: float) -> None:
    given = candidates(5)
    given = given._replace(mass=np.zeros_like(given.mass))
    jets = cluster(given, events=5, radius=radius, pt_min=150.0)
    shapes = substructure(jets, given, radius=radius)
    assert shapes.tau.shape == (len(jets.event), 4)
    for i, part in enumerate(jet_parts(jets, given)):
        axis = np.array([[jets.eta[i], jets.phi[i]]])
        best = minimize(
            lambda x: tau(part, x.reshape(1, 2), radius=radius),  # noqa: B023
            axis.ravel(),
            method="Nelder-Mead",
        )
        # tau_1's minimum is a global one, and the jet's axis lies above it.
        assert shapes.tau[i, 0] == pytest.approx(best.fun, rel=3e-3)
        assert tau(part, axis, radius=radius) >= best.fun


def test_tau_of_two_and_three_prongs() -> None:
    # Three particles: tau_3 vanishes, and tau_2 is the cheapest merging of two.
    given = Candidates(
        np.zeros(3, np.int64),
        *(np.array(x, np.float32) for x in ([100, 60, 40], [0, 0.3, 0.3], [0, 0, 0.1], [0, 0, 0])),
        np.full(3, 211, np.int32),
        np.ones(3, np.int32),
    )
    jets = cluster(given, events=1, radius=1.0, pt_min=150.0)
    shapes = substructure(jets, given, radius=1.0)
    assert jets.multiplicity.tolist() == [3]
    np.testing.assert_allclose(shapes.tau[0, 2:], 0.0, atol=1e-6)
    assert shapes.tau[0, 1] == pytest.approx(40 * 0.1 / 200, rel=0.02)


def test_the_memory_of_fastjet_is_not_kept() -> None:
    given = candidates(4)
    jets = cluster(given, events=4, radius=1.0, pt_min=150.0)
    first = substructure(jets, given, radius=1.0)
    before = first.tau.copy(), first.softdrop.copy()
    for seed in range(5):
        other = candidates(4, seed=seed + 10)
        substructure(cluster(other, events=4, radius=1.0, pt_min=150.0), other, radius=1.0)
    np.testing.assert_array_equal(first.tau, before[0])
    np.testing.assert_array_equal(first.softdrop, before[1])
    assert first.tau.flags.owndata


def test_events_without_jets() -> None:
    given = candidates(2)
    jets = cluster(given, events=3, radius=1.0, pt_min=5000.0)
    shapes = substructure(jets, given, radius=1.0)
    assert len(jets.event) == len(jets.constituents) == len(shapes.softdrop) == 0
    assert shapes.tau.shape == (0, 4)


def test_a_jet_of_one_particle() -> None:
    given = candidates(1)
    given = given.take(np.argsort(-given.pt)[:1])._replace(pt=np.array([500], np.float32))
    jets = cluster(given, events=1, radius=1.0, pt_min=450.0)
    shapes = substructure(jets, given, radius=1.0)
    assert jets.multiplicity.tolist() == [1]
    assert np.isfinite(shapes.tau).all()
    assert shapes.softdrop == pytest.approx(0.13957, abs=0.05)
    # Photons: FastJet's mass of one may be a rounding below zero.
    photons = given._replace(mass=np.zeros(1, np.float32))
    for pt in np.linspace(451, 900, 30):
        one = photons._replace(pt=np.array([pt], np.float32))
        jets = cluster(one, events=1, radius=1.0, pt_min=450.0)
        assert substructure(jets, one, radius=1.0).softdrop[0] >= 0
