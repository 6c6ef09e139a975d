"""Features of jets against FastJet and against clustering spelt out; how FastJet is used."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from hepdecorr.catalogue import load_file
from hepdecorr.columnar import features
from hepdecorr.columnar.features import jet_clustering
from hepdecorr.errors import InputError

making = load_file(Path(__file__).with_name("making_rows.py"))

fastjet = pytest.importorskip("fastjet")

SIZES = (1, 2, 3, 4, 5, 9, 20, 45)


@pytest.fixture(scope="module")
def several():
    return [making.generic(20 + i, n) for i, n in enumerate(SIZES)]


@pytest.fixture(scope="module")
def sequences(several):
    """Each jet clustered on its own, with anti-kT."""
    made = []
    for jet in several:
        record = dict(zip(("px", "py", "pz", "E"), making.cartesian(jet).T, strict=True))
        event = ak.unflatten(ak.zip(record, with_name="Momentum4D"), [len(jet)])
        made.append(fastjet.ClusterSequence(event, fastjet.JetDefinition(fastjet.antikt_algorithm, 10.0)))
    return made


@pytest.mark.parametrize(("name", "contrib"), [("c2", "c2"), ("d2", "d2"), ("n2", "nseries")])
def test_correlators_are_those_of_the_contrib(several, sequences, name, contrib) -> None:
    found = features.compute(name, making.rows(several))[name]
    for i, sequence in enumerate(sequences):
        if len(several[i]) > 2:
            # npoint says which of the series: N2
            values = sequence.exclusive_jets_energy_correlator(
                njets=1, beta=1, npoint=2 if name == "n2" else 0, func=contrib
            )
            assert found[i] == pytest.approx(float(values[0]), rel=1e-5)


@pytest.mark.parametrize("radius", [0.8, 1.0])
def test_taus_are_those_of_the_contrib(several, sequences, radius) -> None:
    names = ["tau1", "tau2", "tau3", "tau4", "tau21", "tau32", "tau43"]
    found = features.compute(names, making.rows(several, radius=radius))
    for i, sequence in enumerate(sequences):
        expected = np.array(sequence.njettiness(njets=[1, 2, 3, 4], R0=radius, beta=1.0))[0]
        expected[len(several[i]) - 1 :] = 0
        got = np.array([found[n][i] for n in names])
        assert got[:4] == pytest.approx(expected, rel=2e-3, abs=1e-7)
        ratios = [b / a if a > 0 else 0 for a, b in itertools.pairwise(got[:4])]
        assert got[4:] == pytest.approx(ratios, rel=1e-5)


def pseudojets(jet):
    return [fastjet.PseudoJet(*map(float, p)) for p in making.cartesian(jet)]


def groomed(jet):
    """Soft drop spelt out: undo Cambridge/Aachen until the softer part has a tenth of the sum of the pT."""
    sequence = fastjet._swig.ClusterSequence(
        pseudojets(jet), fastjet.JetDefinition(fastjet.cambridge_algorithm, 10.0)
    )
    now = sequence.inclusive_jets()[0]
    while True:
        one, two = fastjet.PseudoJet(), fastjet.PseudoJet()
        if not now.has_parents(one, two):
            return max(now.m(), 0.0)
        if min(one.perp(), two.perp()) / (one.perp() + two.perp()) > 0.1:
            return max(now.m(), 0.0)
        now = one if one.perp() > two.perp() else two


def test_softdrop_mass_is_declustering_spelt_out(several) -> None:
    found = features.compute("softdrop_mass", making.rows(several))["softdrop_mass"]
    assert found == pytest.approx([groomed(jet) for jet in several], rel=1e-4, abs=1e-3)


def last_two(jet):
    """Exclusive kT subjets by looking at every pair at every step."""
    left = list(making.cartesian(jet))
    while len(left) > 2:
        best = min(
            ((scale(left[i], left[j])[0], i, j) for i in range(len(left)) for j in range(i)),
            key=lambda t: t[0],
        )
        merged = left[best[1]] + left[best[2]]
        left = [p for k, p in enumerate(left) if k not in best[1:]] + [merged]
    return left


def scale(p, q):
    pt = [np.hypot(v[0], v[1]) for v in (p, q)]
    y = [0.5 * np.log((v[3] + v[2]) / (v[3] - v[2])) for v in (p, q)]
    dphi = np.arctan2(p[1], p[0]) - np.arctan2(q[1], q[0])
    distance = np.hypot(y[0] - y[1], (dphi + np.pi) % (2 * np.pi) - np.pi)
    return (min(pt) * distance) ** 2, distance


def test_kt_splitting_is_clustering_spelt_out(several) -> None:
    found = features.compute(["split12", "zcut12", "kt_dr"], making.rows(several))
    for i, jet in enumerate(several[1:], 1):
        d12, distance = scale(*last_two(jet))
        x, y, z, e = making.cartesian(jet).sum(axis=0)
        squared = e**2 - x**2 - y**2 - z**2
        got = [found[n][i] for n in ("split12", "zcut12", "kt_dr")]
        assert got == pytest.approx([np.sqrt(d12), d12 / (d12 + squared), distance], rel=1e-4)


def test_kt_splitting_is_that_of_fastjet(several) -> None:
    found = features.compute("split12", making.rows(several))["split12"]
    for i, jet in enumerate(several[1:], 1):
        definition = fastjet.JetDefinition(fastjet.kt_algorithm, 10.0)
        sequence = fastjet._swig.ClusterSequence(pseudojets(jet), definition)
        assert found[i] == pytest.approx(10 * np.sqrt(sequence.exclusive_dmerge(1)), rel=1e-5)


def test_batches_make_no_difference(several, monkeypatch) -> None:
    names = ["tau1", "tau21", "softdrop_mass", "split12", "kt_dr"]
    jets = [np.empty((0, 4)), *several, np.empty((0, 4)), *several[::-1]]
    whole = features.compute(names, making.rows(jets))
    monkeypatch.setattr(jet_clustering, "BATCH", 3)
    parts = features.compute(names, making.rows(jets))
    gc.collect()
    for name in names:
        assert np.array_equal(whole[name], parts[name])
        assert np.array_equal(whole[name][1:9], whole[name][10:][::-1])


def test_results_outlive_their_cluster_sequence(several) -> None:
    rows = making.rows(several * 20)
    first = jet_clustering.njettiness(rows)
    kept = first.copy()
    for _ in range(3):
        jet_clustering.njettiness(making.rows(several[::-1] * 20))
        gc.collect()
    assert np.array_equal(first, kept)


def test_nothing_is_printed() -> None:
    code = (
        "import numpy as np\n"
        "from hepdecorr.columnar.features import jet_clustering, jet_momenta\n"
        "ones = np.ones(4)\n"
        "parts = jet_momenta.of_polar(np.array([0, 4]), ones, np.arange(4) / 9, ones, 0 * ones)\n"
        "assert jet_clustering.njettiness_of(parts, radius=0.8)[0, 0] > 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_fastjet_it_is_said_how_to_get_it(several, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "fastjet", None)
    jet_clustering._fastjet.cache_clear()
    rows = making.rows(several)
    with pytest.raises(InputError, match=r"feature 'tau21'.*pip install hepdecorr\[jets\]"):
        features.compute("tau21", rows)
    # what needs no clustering does not ask for it
    features.compute(["jet_correlators", "jet_shapes", "jet_kinematics"], rows)
