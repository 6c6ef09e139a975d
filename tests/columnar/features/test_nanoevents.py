"""The same features on coffea's virtual arrays: equal values, and only the branches that are needed."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea.nanoevents import NanoEventsFactory

from hepdecorr.columnar import features, schemas

BELLE = (0.0, 0.0, 3 / 11)


@pytest.fixture(scope="module")
def stored(tmp_path_factory, made, forty):
    """A file in the layout of the sample, and the events in memory as the file rounds them."""
    path = tmp_path_factory.mktemp("nano") / "sample.root"
    events = made(forty, beta=BELLE)
    columns = {
        "run": np.ones(len(events), np.uint32),
        "luminosityBlock": np.ones(len(events), np.uint32),
        "event": np.arange(len(events), dtype=np.uint64),
    }
    for name in ("Bcand", "Beam"):
        for field in events[name].fields:
            kind = np.int32 if field.endswith("Idx") else np.float64
            columns[f"{name}_{field}"] = np.asarray(events[name][field], kind)
    for name in ("Track", "Photon"):
        columns[name] = events[name]
    with uproot.recreate(path) as file:
        tree = file.mktree(
            "Events", {k: v.type.content if isinstance(v, ak.Array) else v.dtype for k, v in columns.items()}
        )
        tree.extend(columns)
    return path, events


def nano(path, *, log=None, schema=schemas.BsgammaSchema, **options):
    return NanoEventsFactory.from_root(
        {str(path): "Events"}, mode="virtual", schemaclass=schema, access_log=log, **options
    ).events()


def test_virtual_events_give_the_same_columns(stored):
    path, events = stored
    every = features.GROUPS["bsgamma_all"]
    found, expected = features.compute(every, nano(path)), features.compute(every, events)
    for name in every:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_slices_and_masks_of_virtual_events(stored):
    path, events = stored
    expected = features.compute("bsgamma", events)
    rows = np.arange(len(events)) % 3 == 0
    for found, chosen in (
        (features.compute("bsgamma", nano(path)[5:25]), slice(5, 25)),
        (features.compute("bsgamma", nano(path)[rows]), rows),
        (features.compute("bsgamma", nano(path, entry_start=10, entry_stop=30)), slice(10, 30)),
    ):
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[name][chosen], err_msg=name)


def test_a_slice_without_events(stored):
    found = features.compute("bsgamma", nano(stored[0])[:0])
    assert {values.shape for values in found.values()} == {(0,)}


def test_flat_schema(stored):
    path, events = stored
    found = features.compute("bsgamma", nano(path, schema=schemas.BaseSchema))
    for name, values in features.compute("bsgamma", events).items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


TRACK = {"nTrack", "Track_pt", "Track_eta", "Track_phi"}
PHOTON = {"nPhoton", "Photon_pt", "Photon_eta", "Photon_phi"}
BOOST = {"Beam_boostX", "Beam_boostY", "Beam_boostZ"}
PAIR = {"Bcand_kIdx", "Bcand_piIdx"}
THREE = TRACK | PHOTON | BOOST | PAIR | {"Bcand_gIdx"}


@pytest.mark.parametrize(
    ("name", "branches"),
    [
        ("delta_e", {"Bcand_deltaE"}),
        ("Bcand.mPi0", {"Bcand_mPi0"}),
        ("run", {"run"}),
        ("n_tracks_roe", {"nTrack"}),
        ("n_kaons_roe", {"nTrack", "Track_pdgId"} | PAIR),
        ("charge_roe", {"nTrack", "Track_charge"} | PAIR),
        ("kaon_id", {"nTrack", "Track_pdgId", "Bcand_kIdx"}),
        ("p_star_kst", TRACK | BOOST | PAIR),
        ("cos_hel", THREE),
        ("m_bc_recomputed", THREE | {"Beam_EStar"}),
        ("r2", THREE | {"Track_mass"}),
        ("ksfw_mm2", THREE | {"Track_mass", "Beam_sqrtS"}),
        ("ksfw", THREE | {"Track_mass", "Beam_sqrtS", "Track_charge"}),
    ],
)
def test_only_the_needed_branches_are_read(stored, name, branches):
    log = []
    features.compute(name, nano(stored[0], log=log))
    assert {access.branch for access in log} == branches


def test_each_branch_is_read_once(stored):
    log = []
    features.compute("bsgamma", nano(stored[0], log=log))
    read = [access.branch for access in log if not access.branch.startswith("n")]
    assert len(read) == len(set(read))


def test_describing_and_expanding_read_nothing(stored):
    log = []
    nano(stored[0], log=log)
    features.describe("r2")
    features.expand("bsgamma")
    assert log == []


def test_a_missing_branch_of_virtual_events(stored):
    with pytest.raises(
        ValueError, match=r"feature 'Bcand.mbcc': neither a feature nor a branch; did you mean 'Bcand.mbc'"
    ):
        features.compute("Bcand.mbcc", nano(stored[0]))
    with pytest.raises(ValueError, match=r"did you mean 'Bcand.deltaE'"):
        features.compute("Bcand_deltaE", nano(stored[0]))


def small(path, collections):
    """A file of three events with the given collections: dicts of columns, jagged or one number each."""
    columns = {field: np.ones(3, np.uint64) for field in ("run", "luminosityBlock", "event")}
    for name, fields in collections.items():
        zipped = ak.zip({field: ak.Array(values) for field, values in fields.items()})
        if zipped.ndim == 1:
            columns |= {f"{name}_{field}": np.asarray(zipped[field]) for field in zipped.fields}
        else:
            columns[name] = zipped
    kinds = {k: v.type.content if isinstance(v, ak.Array) else v.dtype for k, v in columns.items()}
    with uproot.recreate(path) as file:
        file.mktree("Events", kinds).extend(columns)
    return nano(path)


LIST = [[0.5, 0.25], [], [0.125]]
VECTOR = ("pt", "eta", "phi", "mass")


def test_the_schema_makes_vectors_candidates_and_single_records(tmp_path):
    one = [1.0, 2.0, 3.0]
    events = small(
        tmp_path / "small.root",
        {
            "Track": dict.fromkeys(VECTOR, LIST) | {"charge": [[1, -1], [], [1]]},
            "Photon": dict.fromkeys(VECTOR, LIST),
            "Bcand": dict.fromkeys((*VECTOR, "tau2", "mbc"), one),
            "Beam": {"sqrtS": one},
        },
    )
    assert events["Beam"].ndim == events["Bcand"].ndim == 1
    assert events["Track"].ndim == events["Photon"].ndim == 2
    assert ak.sum(events.Track, axis=1).charge.tolist() == [0, 0, 1]
    assert ak.all(events.Photon.energy > events.Photon.p)
    assert events.Bcand.energy[0] == pytest.approx(np.sqrt(np.cosh(1.0) ** 2 + 1))
    # The trap: the attribute is the mass squared, the item is the branch.
    assert events.Bcand.tau2.tolist() == pytest.approx([1.0, 4.0, 9.0])
    assert features.compute("Bcand.tau2", events)["Bcand.tau2"].tolist() == one


def test_a_collection_without_all_coordinates_is_no_vector(tmp_path):
    events = small(tmp_path / "small.root", {"Track": {"pt": LIST}, "Bcand": {"mbc": [5.2, 5.25, 5.28]}})
    assert events.Track.pt.tolist() == LIST
    assert features.compute("m_bc", events)["m_bc"].tolist() == pytest.approx([5.2, 5.25, 5.28])


def test_the_mass_of_photons_is_the_files_or_zero(tmp_path):
    stored = small(tmp_path / "with.root", {"Photon": dict.fromkeys(VECTOR, LIST)})
    lacking = small(tmp_path / "without.root", {"Photon": dict.fromkeys(VECTOR[:3], LIST)})
    assert stored.Photon.mass.tolist() == LIST
    assert lacking.Photon.mass.tolist() == [[0.0, 0.0], [], [0.0]]
    assert ak.all(lacking.Photon.energy == lacking.Photon.p)


def test_the_schema_leaves_coffeas_own_as_it_was():
    assert schemas.NanoAODSchema.all_cross_references
    assert schemas.NanoAODSchema.mixins["Photon"] == "Photon"
    assert "Photon_mass" in schemas.NanoAODSchema.full_like_items
