"""What the samples are for: masses, spectra, weights, truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from hepdecorr.samples import read_provenance
from hepdecorr.samples.jets import Options, generate, generation
from hepdecorr.samples.pythia import batch as pythia_batch
from hepdecorr.samples.pythia import configured, initialise

pytestmark = pytest.mark.usefixtures("generators")

Load = Callable[[Path], ak.Array]


def flat(events: ak.Array, name: str) -> np.ndarray:
    return ak.to_numpy(ak.flatten(events[f"FatJet_{name}"])).astype(float)


def peak(mass: np.ndarray, *, low: float, high: float) -> float:
    """The densest stretch of 8 GeV."""
    mass = np.sort(mass[(mass > low) & (mass < high)])
    counts = np.searchsorted(mass, mass + 8.0) - np.arange(len(mass))
    return float(mass[np.argmax(counts)] + 4.0)


def test_masses_peak_where_they_should(files: dict[str, Path], load: Load) -> None:
    for process, quarks, expected in (("w", 2, {24: 80.4, 23: 91.2}), ("top", 3, {6: 172.5})):
        events = load(files[process])
        whole = flat(events, "nMatchedQuarks") == quarks
        flavour = np.abs(flat(events, "genFlavour"))
        for code, mass in expected.items():
            rows = whole & (flavour == code)
            assert rows.sum() > 80
            found = np.median(flat(events, "msoftdrop")[rows])
            assert found == pytest.approx(mass, rel=0.05), code
            assert peak(flat(events, "msoftdrop")[rows], low=50, high=250) == pytest.approx(mass, rel=0.06)
    heavy = load(files["h4j"])
    four = flat(heavy, "nMatchedQuarks") == 4
    # Four b quarks: neutrinos and what is too soft to be seen take a tenth.
    assert 0.85 * 174 < peak(flat(heavy, "mass")[four], low=100, high=250) < 174


@pytest.mark.parametrize(
    ("process", "arguments", "quarks", "expected"),
    [
        ("w", {"boson_mass": 59.0}, 2, {24: 59, 23: 59}),
        ("w", {"boson_mass": 280.0}, 2, {24: 280, 23: 280}),
        ("top", {"top_mass": 86.5}, 3, {6: 86.5, 24: 40.2}),
    ],
)
def test_other_masses_of_bosons_and_tops(
    process: str, arguments: dict[str, float], quarks: int, expected: dict[int, float]
) -> None:
    options = Options(mpi=False, **arguments).settled(process)
    batch = generation.Generator(process, options, seed=9)(60)
    made = batch.resonances
    assert np.bincount(batch.parent).tolist() == [quarks] * 2 * batch.size
    mass = np.sqrt(made.p4[:, 3] ** 2 - (made.p4[:, :3] ** 2).sum(axis=1))
    # What is not an outgoing b of top -> b W is the W: two quarks, of which one is u or c.
    pairs = batch.quarks.take(np.abs(batch.quarks.id) <= 4) if process == "top" else None
    for code, nominal in expected.items():
        found = mass[np.abs(made.id) == code]
        if pairs is not None and code == 24:
            light = batch.parent[np.abs(batch.quarks.id) <= 4]
            p4 = np.zeros((len(made.id), 4))
            np.add.at(p4, light, pairs.p4)
            found = np.sqrt(p4[:, 3] ** 2 - (p4[:, :3] ** 2).sum(axis=1))[np.bincount(light) == 2]
        assert len(found) > 50
        assert np.median(found) == pytest.approx(nominal, rel=0.02), code
        # The width goes with the mass: a fortieth of a W's.
        assert np.subtract(*np.quantile(found, [0.75, 0.25])) < 0.06 * nominal


def test_substructure_tells_the_prongs(files: dict[str, Path], load: Load) -> None:
    events = {process: load(path) for process, path in files.items()}
    ratio = {
        process: {n: np.median(flat(e, f"tau{n}") / flat(e, f"tau{n - 1}")) for n in (2, 3)}
        for process, e in events.items()
    }
    assert ratio["w"][2] < 0.4 < 0.55 < ratio["qcd"][2]
    assert ratio["top"][3] < 0.65 < 0.75 < ratio["qcd"][3]
    for e in events.values():
        tau = np.column_stack([flat(e, f"tau{n}") for n in range(1, 5)])
        # A local minimum of tau_N is now and then above that of tau_(N-1).
        assert (tau[:, 1:] <= tau[:, :-1]).mean() > 0.99
        assert (tau >= 0).all()
        assert (flat(e, "msoftdrop") <= flat(e, "mass") * 1.001).all()


def test_cuts_on_the_jets(files: dict[str, Path], load: Load) -> None:
    for path in files.values():
        events = load(path)
        assert flat(events, "pt").min() > 450
        assert np.abs(flat(events, "eta")).max() < 2
        assert ak.all(events.FatJet_pt[:, :-1] >= events.FatJet_pt[:, 1:])
        assert ak.min(events.nFatJet) > 0


def test_truth(files: dict[str, Path], load: Load) -> None:
    known = {"qcd": {*range(-5, 6), 21}, "w": {-24, 0, 23, 24}, "top": {-6, 0, 6}, "h4j": {0, 35}}
    for process, path in files.items():
        events = load(path)
        flavour, quarks = flat(events, "genFlavour"), flat(events, "nMatchedQuarks")
        assert set(flavour.tolist()) <= known[process]
        assert (flavour != 0).mean() > 0.9
        most = {"qcd": 0, "w": 2, "top": 3, "h4j": 4}[process]
        assert quarks.max() == most
        assert not quarks[flavour == 0].any()
        if process != "qcd":
            assert (quarks == most).mean() > (0.9 if process == "w" else 0.4)
    w = flat(load(files["w"]), "genFlavour")
    assert (w == 23).sum() == pytest.approx((np.abs(w) == 24).sum(), rel=0.3)


@pytest.mark.parametrize(("process", "quarks"), [("w", 2), ("top", 3), ("h4j", 4)])
def test_quarks_add_up_to_the_resonance_that_they_come_from(process: str, quarks: int) -> None:
    options = Options(mpi=False).settled(process)
    batch = generation.Generator(process, options, seed=9)(40)
    expected = {"w": 2, "top": 2, "h4j": 1}[process] * batch.size
    assert len(batch.resonances.id) == expected
    assert np.bincount(batch.parent, minlength=expected).tolist() == [quarks] * expected
    np.testing.assert_array_equal(batch.quarks.event, batch.resonances.event[batch.parent])
    total = np.zeros((expected, 4))
    np.add.at(total, batch.parent, batch.quarks.p4)
    mass = {24: 80.4, 23: 91.2, 6: 172.5, 35: 174.0}
    for found in (total, batch.resonances.p4):
        m = np.sqrt(found[:, 3] ** 2 - (found[:, :3] ** 2).sum(axis=1))
        nominal = np.array([mass[abs(code)] for code in batch.resonances.id.tolist()])
        assert np.median(np.abs(m - nominal)) < 4
    # What radiates, loses: the rest goes on.
    np.testing.assert_allclose(np.median(total[:, 3] / batch.resonances.p4[:, 3]), 1.0, atol=0.02)


def spectrum(events: ak.Array, *, weighted: bool) -> np.ndarray:
    pt = events.FatJet_pt
    weight = ak.broadcast_arrays(events.genWeight, pt)[0] if weighted else ak.ones_like(pt)
    edges = [450, 550, 650, 800, 1000]
    counts = np.histogram(ak.to_numpy(ak.flatten(pt)), edges, weights=ak.to_numpy(ak.flatten(weight)))[0]
    return counts / np.diff(edges) / counts.sum()


@pytest.fixture(scope="module")
def flat_file(generators: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flat") / "flat.root"
    generate("qcd", out=out, jets=900, seed=6, options=Options(mpi=False, flat_pt=True))
    return out


def test_weights_give_the_falling_spectrum_and_flat_pt_makes_it_flat(
    files: dict[str, Path], flat_file: Path, load: Load
) -> None:
    falling, level = load(files["qcd"]), load(flat_file)
    physical = spectrum(falling, weighted=True)
    assert (physical[1:] < 0.7 * physical[:-1]).all()
    # The local exponent of QCD dijets is 6 to 7.
    slope = np.log(physical[-1] / physical[0]) / np.log(890 / 500)
    assert slope == pytest.approx(-6.3, abs=1.0)
    even = spectrum(level, weighted=False)
    assert even.max() < 1.6 * even.min()
    assert (spectrum(falling, weighted=False)[0] / spectrum(falling, weighted=False)[-1]) > 1.8
    np.testing.assert_allclose(spectrum(level, weighted=True), physical, rtol=0.35)


def test_the_physical_rate_is_the_same_however_it_is_sampled(
    files: dict[str, Path], flat_file: Path, load: Load
) -> None:
    def rate(path: Path) -> float:
        told = read_provenance(path)
        weight = load(path)
        jets = ak.broadcast_arrays(weight.genWeight, weight.FatJet_pt)[0]
        return told["cross_section_pb"] / told["sumw"] * float(ak.sum(jets))

    assert rate(files["qcd"]) == pytest.approx(rate(flat_file), rel=0.2)


def test_the_cross_section_is_that_of_pythia(files: dict[str, Path]) -> None:
    told = read_provenance(files["top"])
    pythia = configured(told["pythia"], seed=77)
    initialise(pythia, "top")
    pythia_batch(pythia, 600, process="top")
    info = pythia.infoPython()
    error = np.hypot(told["cross_section_error_pb"], info.sigmaErr() * 1e9)
    assert abs(told["cross_section_pb"] - info.sigmaGen() * 1e9) < 4 * error
    assert 0 < told["cross_section_error_pb"] < 0.1 * told["cross_section_pb"]


def test_runs_tree_and_provenance_tell_the_same(files: dict[str, Path], load: Load) -> None:
    for process, path in files.items():
        told = read_provenance(path)
        with uproot.open(path) as file:
            runs = file["Runs"].arrays(library="np")
        events = load(path)
        assert runs["run"].tolist() == np.unique(events.run).tolist()
        assert runs["genEventCount"].tolist() == [told["generated"]]
        assert runs["genEventSumw"].tolist() == [told["sumw"]]
        assert runs["crossSection"].tolist() == [told["cross_section_pb"]]
        if process != "qcd":
            assert told["sumw"] == told["sumw2"] == told["generated"]
            assert set(events.genWeight.tolist()) == {1.0}
        else:
            assert told["sumw"] > ak.sum(events.genWeight) > 0.5 * told["sumw"]
            # The weight is a power of pT-hat, and pT-hat is in its range.
            expected = (events.Generator_ptHat / 450.0) ** -4.5
            np.testing.assert_allclose(events.genWeight, expected, rtol=1e-3)
            assert 405 <= ak.min(events.Generator_ptHat) < ak.max(events.Generator_ptHat) <= 1125
