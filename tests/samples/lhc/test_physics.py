"""ZH, Z + b b and ZZ; H -> mu mu and its continuum: what an analysis would look at first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import vector

from hepdecorr.samples import read_provenance
from hepdecorr.samples.hbb.selection import EFFICIENCY, MET_MIN, tag
from hepdecorr.samples.hmumu.selection import isolation
from hepdecorr.samples.jets.detector import Candidates
from hepdecorr.samples.jets.generation import Particles
from hepdecorr.samples.lhc.generation import hadrons
from hepdecorr.samples.lhc.reconstruction import SOFT_MET, missing

Load = Callable[[Path], ak.Array]


def p4(events: ak.Array, collection: str) -> Any:
    fields = {k: events[f"{collection}_{k}"] for k in ("pt", "eta", "phi", "mass")}
    return ak.zip(fields, with_name="Momentum4D", behavior=vector.backends.awkward.behavior)


def pair_mass(objects: Any) -> np.ndarray:
    return np.asarray((objects[:, 0] + objects[:, 1]).mass)


def test_two_b_jets_and_missing_momentum(collisions: dict[str, Path], load: Load) -> None:
    masses = {}
    for process in ("zh", "zbb", "zz"):
        events = load(collisions[process])
        assert ak.min(events.PuppiMET_pt) > MET_MIN
        tags = events.Jet_btagged
        assert ak.all(ak.sum(tags, axis=1) >= 2)
        true = ak.mean(events.Jet_hadronFlavour[tags] == 5)
        assert true > 0.93
        masses[process] = pair_mass(p4(events, "Jet")[tags])
    # Jets are not corrected, and a third of b hadrons have a neutrino: the peaks lie below 125 and 91 GeV.
    assert np.median(masses["zh"]) == pytest.approx(107, abs=5)
    assert np.median(masses["zz"]) == pytest.approx(79, abs=5)
    inside = {name: ((m > 85) & (m < 125)).mean() for name, m in masses.items()}
    assert inside["zh"] > 0.6 > 0.35 > inside["zbb"]
    assert np.mean((masses["zbb"] > 125) & (masses["zbb"] < 240)) > 0.25


def test_the_z_recoils_against_the_pair(collisions: dict[str, Path], load: Load) -> None:
    events = load(collisions["zh"])
    both = p4(events, "Jet")[events.Jet_btagged]
    total = both[:, 0] + both[:, 1]
    met = vector.array({"pt": np.asarray(events.PuppiMET_pt), "phi": np.asarray(events.PuppiMET_phi)})
    assert np.median(np.abs(total.deltaphi(met))) > 2.9
    assert np.median(np.asarray(total.pt) / np.asarray(met.pt)) == pytest.approx(0.93, abs=0.1)


def test_muons_of_a_higgs_and_of_the_continuum(collisions: dict[str, Path], load: Load) -> None:
    masses, events = {}, {}
    for process in ("signal", "dy"):
        events[process] = load(collisions[process])
        muons = p4(events[process], "Muon")
        assert ak.all(ak.num(muons) >= 2)
        masses[process] = pair_mass(muons)
    assert np.median(masses["signal"]) == pytest.approx(124.8, abs=0.4)
    low, high = np.quantile(masses["signal"], [0.16, 0.84])
    assert 1.1 < (high - low) / 2 < 2.6  # 1.5 % of 125 GeV, and photons
    counts = np.histogram(masses["dy"], bins=[110, 120, 130, 140, 150])[0]
    assert counts[0] > 1.6 * counts[-1] > 0
    # A Higgs boson comes with more radiation, from gluons, than a Z.
    pts = {k: np.median(np.hypot(*_sum(p4(v, "Muon")))) for k, v in events.items()}
    assert pts["signal"] > 1.3 * pts["dy"]
    assert np.median(events["dy"].PuppiMET_pt) == pytest.approx(SOFT_MET * np.sqrt(np.log(4)), rel=0.25)
    assert ak.mean(events["signal"].Muon_pfRelIso04_all[:, :2] < 0.25) > 0.9


def _sum(muons: Any) -> tuple[np.ndarray, np.ndarray]:
    total = muons[:, 0] + muons[:, 1]
    return np.asarray(total.px), np.asarray(total.py)


def test_cross_sections_at_leading_order(collisions: dict[str, Path]) -> None:
    """H -> mu mu: 20 pb of gluon fusion and 4 pb of boson fusion, times a branching ratio of 2.2e-4."""
    told = read_provenance(collisions["signal"])
    assert told["cross_section_pb"] == pytest.approx(24 * 2.2e-4, rel=0.35)
    assert told["stored_cross_section_pb"] == pytest.approx(
        told["cross_section_pb"] * told["cutflow"]["two opposite muons"] / told["generated"]
    )
    # What the veto of other flavours takes off: one event in twenty begins with a b.
    zbb = read_provenance(collisions["zbb"])
    assert zbb["incoming"] == 5
    assert zbb["cross_section_pb"] == pytest.approx(5.5, rel=0.2)


def test_tags_by_flavour() -> None:
    flavour = np.repeat([0, 4, 5], 20_000).astype(np.int32)
    passed = tag(flavour, np.random.default_rng(2)).reshape(3, -1).mean(axis=1)
    for found, expected in zip(passed, (EFFICIENCY[0], EFFICIENCY[4], EFFICIENCY[5]), strict=True):
        assert found == pytest.approx(expected, abs=5 * np.sqrt(expected / 20_000))


def test_the_heaviest_quark_of_hadrons() -> None:
    #            B0   B*-   Lambda_b Sigma_b D+  Lambda_c K+  p     Upsilon J/psi D excited  b quark
    codes = [511, -523, 5122, -5222, 411, 4122, 321, 2212, 553, 443, 10411, 5]
    momentum = np.tile([10.0, 0, 0, 12.0], (len(codes), 1))
    particles = Particles(np.zeros(len(codes), np.int64), np.array(codes, np.int32), momentum)
    assert hadrons(particles, 5).id.tolist() == [511, -523, 5122, -5222, 553]
    assert hadrons(particles, 4).id.tolist() == [411, 4122, 443, 10411]
    assert not len(hadrons(particles, 5, pt_min=11.0).id)


def candidates(*listed: tuple[int, float, float, float]) -> Candidates:
    """Massless candidates of event, pt, eta, phi."""
    event, pt, eta, phi = (np.array(x) for x in zip(*listed, strict=True))
    whole = np.full(len(event), 1, np.int32)
    single = [x.astype(np.float32) for x in (pt, eta, phi, 0 * pt)]
    return Candidates(event, *single, 211 * whole, whole)


def test_isolation_counts_what_is_near_and_not_the_muon() -> None:
    muons = candidates((0, 50.0, 0.0, 3.1), (2, 40.0, 1.0, 0.0))
    others = candidates((0, 50.0, 0.0, 3.1), (0, 5.0, 0.1, -3.1), (0, 9.0, 0.5, 3.1), (1, 7.0, 0.0, 3.1))
    np.testing.assert_allclose(isolation(muons, others), [0.1, 0.0], atol=1e-6)


def test_missing_momentum_balances_what_is_seen() -> None:
    seen = candidates(
        *[(i, 100.0, 0.3, 0.5) for i in range(4000)], *[(i, 40.0, -1.0, 0.5) for i in range(4000)]
    )
    seen = seen.take(np.argsort(seen.event, kind="stable"))
    met = missing(seen, events=4000, rng=np.random.default_rng(3))
    x, y = met.pt * np.cos(met.phi), met.pt * np.sin(met.phi)
    assert np.mean(x) == pytest.approx(-140 * np.cos(0.5), abs=5 * SOFT_MET / np.sqrt(4000))
    assert np.mean(y) == pytest.approx(-140 * np.sin(0.5), abs=5 * SOFT_MET / np.sqrt(4000))
    assert np.std(x) == pytest.approx(SOFT_MET, rel=0.06)
