"""Features of jets in files of every layout: from branches where there are some, clear errors where not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hepdecorr.catalogue import load_file
from hepdecorr.columnar import features, objects
from hepdecorr.errors import InputError

making = load_file(Path(__file__).with_name("making_rows.py"))

pytest.importorskip("fastjet")

STORED = ("tau1", "tau2", "tau3", "tau4", "tau21", "tau32", "tau43", "softdrop_mass", "n_constituents")
KINEMATIC = ("jet_pt", "jet_eta", "jet_phi", "jet_mass", "rho", "rho_ddt")
FATJET = {"collection": "FatJet"}


@pytest.mark.parametrize(
    ("layout", "schema"),
    [("pfnano", "PFNanoAODSchema"), ("pfnano", "NanoAODSchema"), ("pfnano", "BaseSchema"),
     ("pfnano_raw", "PFNanoAODSchema"), ("v15", "NanoAODSchema")],
)  # fmt: skip
def test_every_feature_in_every_layout(files, opened, layout, schema) -> None:
    rows = objects.rows(opened(files[layout], schema=schema), FATJET)
    found = features.compute("jets_all", rows)
    assert set(found) == set(features.GROUPS["jets_all"])
    reference = objects.rows(opened(files[layout], schema="BaseSchema", mode="eager"), FATJET)
    for name, values in features.compute("jets_all", reference).items():
        np.testing.assert_array_equal(values, found[name], err_msg=name)
    assert len(found["jet_pt"]) == len(rows) > 30


def test_weighted_candidates_give_the_same_in_both_layouts(files, opened) -> None:
    first, second = (
        features.compute("jets_all", objects.rows(opened(files[layout]), FATJET))
        for layout in ("pfnano", "v15")
    )
    for name in first:
        assert first[name] == pytest.approx(second[name], rel=1e-4, abs=1e-5), name


def test_small_jets_have_features_too(files, opened) -> None:
    rows = objects.rows(opened(files["pfnano"]), {"collection": "Jet"})
    assert len(features.compute("jets_all", rows)["tau21"]) == len(rows)


def test_plain_nanoaod_gives_what_has_branches(files, opened) -> None:
    rows = objects.rows(opened(files["plain"]), FATJET)
    found = features.compute([*KINEMATIC, *STORED], rows)
    for name in ("tau1", "tau2", "tau3", "tau4"):
        np.testing.assert_array_equal(found[name], np.asarray(rows["FatJet"][name]))
    assert found["tau21"] == pytest.approx(found["tau2"] / found["tau1"], rel=1e-6)
    np.testing.assert_array_equal(found["softdrop_mass"], np.asarray(rows["FatJet"]["msoftdrop"]))
    np.testing.assert_array_equal(found["n_constituents"], np.asarray(rows["FatJet"]["nConstituents"]))
    assert set(features.sources(rows, STORED).values()) == {"branch"}


NEEDING = sorted(set(features.GROUPS["jets_all"]) - {*KINEMATIC, *STORED})


@pytest.mark.parametrize("name", NEEDING)
def test_plain_nanoaod_has_no_constituents_for_the_others(files, opened, name) -> None:
    rows = objects.rows(opened(files["plain"]), FATJET)
    with pytest.raises(InputError, match=rf"feature '{name}': no constituents of 'FatJet'"):
        features.compute(name, rows)


def test_without_the_branches_they_are_computed(jets, made, opened, files, tmp_path) -> None:
    missing = ("FatJet_tau1", "FatJet_tau2", "FatJet_tau3", "FatJet_tau4", "FatJet_msoftdrop")
    path = jets.write(tmp_path / "bare.root", made, layout="pfnano", without=missing)
    rows, full = (objects.rows(opened(p), FATJET) for p in (path, files["pfnano"]))
    assert set(features.sources(rows, STORED).values()) == {"computed"}
    told = features.sources(full, ["tau21", "softdrop_mass", "c2", "jet_pt", "n_constituents"])
    assert told == {"tau21": "branch", "softdrop_mass": "branch", "n_constituents": "computed"}
    computed, stored = (features.compute(list(STORED), r) for r in (rows, full))
    # the branches of these files are made up, so a mix-up shows
    assert np.mean(np.isclose(computed["tau21"], stored["tau21"], rtol=0.01)) < 0.2
    assert np.mean(np.isclose(computed["softdrop_mass"], stored["softdrop_mass"], rtol=0.01)) < 0.2
    assert (computed["tau2"] <= computed["tau1"] + 1e-6).all()


def test_two_prongs_are_told_from_one(jets, opened, tmp_path) -> None:
    names, values = ["tau21", "d2", "n2"], []
    for process in ("qcd", "w"):
        made = jets.physics(150, process=process, seed=8, constituents=(15, 40))
        bare = ("FatJet_tau1", "FatJet_tau2", "FatJet_tau3", "FatJet_tau4")
        path = jets.write(tmp_path / f"{process}.root", made, layout="v15", without=bare)
        values.append(features.compute(names, objects.rows(opened(path), FATJET)))
    for name in names:
        assert np.mean(values[1][name][:, np.newaxis] < values[0][name]) > 0.75, name


def test_a_ratio_is_never_of_a_branch_and_a_computed_value(jets, made, opened, files, tmp_path) -> None:
    path = jets.write(tmp_path / "three.root", made, layout="pfnano", without=("FatJet_tau4",))
    bare = ("FatJet_tau1", "FatJet_tau2", "FatJet_tau3", "FatJet_tau4")
    none = jets.write(tmp_path / "none.root", made, layout="pfnano", without=bare)
    rows, computed = (objects.rows(opened(p), FATJET) for p in (path, none))
    told = features.sources(rows, ["tau3", "tau32", "tau4", "tau43"])
    assert told == {"tau3": "branch", "tau32": "branch", "tau4": "computed", "tau43": "computed"}
    np.testing.assert_array_equal(
        features.compute("tau43", rows)["tau43"], features.compute("tau43", computed)["tau43"]
    )


def test_invalid_branch_values_count_as_nothing() -> None:
    tau = [[0.4, -1.0, 0.3, np.nan, 0.2], [0.2, -1.0, -1.0, 0.1, np.inf]]
    rows = making.rows(
        [making.generic(i, 6) for i in range(5)],
        tau1=tau[0],
        tau2=tau[1],
        msoftdrop=[80.0, -1.0, np.nan, 0.0, 5.0],
        mass=[80.0, -3.0, 0.0, np.nan, 5.0],
    )
    names = ["tau1", "tau2", "tau21", "softdrop_mass", "jet_mass", "rho"]
    found = features.compute(names, rows)
    assert found["tau1"] == pytest.approx([0.4, 0, 0.3, 0, 0.2])
    assert found["tau2"] == pytest.approx([0.2, 0, 0, 0.1, 0])
    assert found["tau21"] == pytest.approx([0.5, 0, 0, 0, 0])
    assert found["softdrop_mass"] == pytest.approx([80, 0, 0, 0, 5])
    assert found["jet_mass"] == pytest.approx([80, 0, 0, 0, 5])
    pt = found_pt(rows)
    assert found["rho"] == pytest.approx(2 * np.log(np.array([80, 1e-3, 1e-3, 1e-3, 5]) / pt), rel=1e-5)
    assert features.fallbacks(rows, names) == {
        "FatJet.tau1 negative or not finite, 0 taken": 2,
        "FatJet.tau2 negative or not finite, 0 taken": 3,
        "FatJet.msoftdrop negative or not finite, 0 taken": 2,
        "FatJet.mass negative or not finite, 0 taken": 2,
    }
    assert features.fallbacks(rows, ["tau1", "c2"]) == {"FatJet.tau1 negative or not finite, 0 taken": 2}


def found_pt(rows):
    return features.compute("jet_pt", rows)["jet_pt"]


def test_the_radius_is_that_of_the_collection_or_the_one_given() -> None:
    jets = [making.generic(3, 12), making.generic(4, 5)]
    by = {
        radius: features.compute("tau1", making.rows(jets, radius=radius))["tau1"]
        for radius in (None, 0.8, 1.6)
    }
    assert by[None] == pytest.approx(by[0.8], rel=1e-6)
    assert by[1.6] == pytest.approx(by[0.8] / 2, rel=1e-6)
    small = making.rows(jets, radius=None, collection="Jet")
    assert features.compute("tau1", small)["tau1"] == pytest.approx(by[0.8] * 2, rel=1e-6)
    unknown = making.rows(jets, radius=None, collection="TrackJet")
    with pytest.raises(
        InputError, match=r"feature 'tau1': no jet radius is known for 'TrackJet'.*radius: 0\.8"
    ):
        features.compute("tau1", unknown)
