"""Shifts: events with other jets or constituents, and everything that follows from them."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import cloudpickle
import numpy as np
import pytest
from correctionlib import schemav2 as cs

from hepdecorr.catalogue import load_file
from hepdecorr.columnar import constituent_scale, constituents, features, objects, shifts
from hepdecorr.columnar.features import branches, per_constituent
from hepdecorr.errors import InputError

making = load_file(Path(__file__).with_name("making_rows.py"))

SPEC = {"collection": "FatJet"}
MINE = """
import awkward as ak
from hepdecorr.columnar.shifts import multiplied

def shift(events):
    return multiplied(events, "FatJet", 1.5, fields=["mass"])

def scaled(events, factor):
    return multiplied(events, "FatJet", factor, fields=["mass"])

def fewer(events):
    return events[:-1]

def nothing(events):
    return None

class Mine:
    def __init__(self, *, factor):
        self.factor = factor

    def __call__(self, events):
        return ak.with_field(events, events["genWeight"] * self.factor, "genWeight")

class Lame:
    pass
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "my_shifts.py").write_text(MINE)
    return tmp_path


@pytest.fixture(params=["NanoAODSchema", "BaseSchema"])
def schema(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(spec: Any, base: Path | None = None) -> Any:
    return shifts.build({"it": spec}, base=base)["it"]


def flat(events: Any, name: str) -> Any:
    return branches.jagged(events, name)[1]


def ratio(shifted: Any, events: Any, name: str) -> Any:
    before, after = flat(events, name), flat(shifted, name)
    return np.divide(after, before, out=np.ones_like(after), where=before != 0)


# ---- what changes


def test_a_scale_is_one_factor_on_pt_and_masses(files: dict[str, Path], opened: Any, schema: str) -> None:
    log: list[Any] = []
    about = {"dataset": "w", "filename": "w.root"}
    events = opened(files["pfnano_raw"], schema=schema, access_log=log, metadata=about)
    before = {n: flat(events, f"FatJet.{n}") for n in ("pt", "mass", "msoftdrop")}
    shifted = build({"type": "JetEnergyScale", "factor": 1.02})(events)
    assert {e.branch for e in log} - {"nFatJet"} == {f"FatJet_{n}" for n in before}
    for name, old in before.items():
        np.testing.assert_allclose(flat(shifted, f"FatJet.{name}"), old * 1.02, rtol=1e-6)
        np.testing.assert_array_equal(flat(events, f"FatJet.{name}"), old)  # the events stay
    for name in ("FatJet.eta", "FatJet.tau1", "Jet.pt", "PFCands.pt"):
        np.testing.assert_array_equal(flat(shifted, name), flat(events, name))
    assert shifted.metadata["dataset"] == "w"
    assert ak.type(shifted) == ak.type(events) or schema == "NanoAODSchema"


def test_behaviours_and_types_stay(files: dict[str, Path], opened: Any) -> None:
    events = opened(files["pfnano_raw"])
    shifted = build({"type": "JetEnergyScale", "factor": 1.1})(events)
    assert type(shifted.FatJet) is type(events.FatJet)
    assert shifted.FatJet.pt.type.content.content.primitive == "float32"
    # pt and mass by one factor: so is the energy
    np.testing.assert_allclose(
        ak.flatten(shifted.FatJet.energy), ak.flatten(events.FatJet.energy) * 1.1, rtol=1e-5
    )


def test_what_follows_is_computed_anew(files: dict[str, Path], opened: Any) -> None:
    events = opened(files["pfnano_raw"])
    shifted = build({"type": "JetEnergyScale", "factor": 1.25})(events)
    before, after = (objects.rows(e, SPEC) for e in (events, shifted))
    for name, expected in (("FatJet.pt", 1.25), ("FatJet.tau1", 1.0)):
        (old,), (new,) = (features.compute([name], rows).values() for rows in (before, after))
        np.testing.assert_allclose(new, old * expected, rtol=1e-6)
    (x, mask, _), (y, _, _) = (
        per_constituent.prepare(r, ["log_pt_rel", "log_pt"], length=30) for r in (before, after)
    )
    np.testing.assert_allclose((x - y)[mask], [[np.log(1.25), 0]] * int(mask.sum()), atol=1e-5)


@pytest.mark.parametrize("layout", ["pfnano_raw", "pfnano", "v15"])
def test_constituents_of_some_kind(files: dict[str, Path], opened: Any, layout: str, schema: str) -> None:
    events = opened(files[layout], schema=schema)
    table = "PFCand" if layout == "v15" else "PFCands"
    shifted = build({"type": "ConstituentScale", "factor": 0.9, "pdg_ids": [22, -211]})(events)
    hit = np.isin(np.abs(flat(events, f"{table}.pdgId")), [22, 211])
    assert 0 < hit.sum() < len(hit)
    for name in ("pt", "mass"):
        there = flat(events, f"{table}.{name}") > 0  # with Puppi weight 0, or a photon's mass, it is not
        found = ratio(shifted, events, f"{table}.{name}")
        np.testing.assert_allclose(found[there], np.where(hit, 0.9, 1)[there], rtol=1e-6)
        assert len(np.unique(found[there].round(6))) == 2
    every = build({"type": "ConstituentScale", "factor": 0.9})(events)
    old, new = (constituents.of(objects.rows(e, SPEC)) for e in (events, every))
    np.testing.assert_allclose(new.pt, old.pt * 0.9, rtol=1e-6)


KIND = {"type": "ConstituentScale", "factor": 0.8, "pdg_ids": [22, 211]}


@pytest.mark.parametrize("layout", ["pfnano_raw", "pfnano", "v15"])
def test_jets_move_as_their_constituents_do(
    files: dict[str, Path], opened: Any, layout: str, schema: str
) -> None:
    events = opened(files[layout], schema=schema)
    shifted = build(KIND)(events)
    sums = [momenta(objects.rows(e, SPEC)) for e in (events, shifted)]
    expected = {
        "pt": sums[1].pt / sums[0].pt,
        # of one massless constituent there is no ratio of masses
        "mass": np.where(sums[0].mass > 0.01, sums[1].mass / np.maximum(sums[0].mass, 0.01), np.nan),
    }
    for name, by in expected.items():
        there = np.isfinite(by)
        found = ratio(shifted, events, f"FatJet.{name}")
        np.testing.assert_allclose(found[there], by[there], rtol=2e-4)
        assert there.sum() > 40
        assert len(np.unique(found.round(4))) > 30
        assert ((found > 0.7) & (found < 1.4)).all()
    # the closure of the constituents on their jets stays what it is
    before, after = (constituents.closure(objects.rows(e, SPEC)) for e in (events, shifted))
    np.testing.assert_allclose(after, before, rtol=1e-4)


def momenta(rows: Any) -> Any:
    """pt and mass of the sums of the constituents, made jet by jet."""
    found = constituents.of(rows)
    each = np.stack([found.pt, found.eta, found.phi, found.mass], axis=1)
    return SimpleNamespace(**making.four_momenta(np.split(each, found.start[1:-1])))


def test_one_factor_for_all_constituents_is_one_for_their_jets(
    jets: Any, made: dict[str, Any], tmp_path: Path, opened: Any, schema: str,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(constituent_scale, "_TOLD", set())
    links = made["JetLink"][made["JetLink"]["jetIdx"] > 0]
    changed = {"FatJetPFCands_jetIdx": links["jetIdx"], "FatJetPFCands_pFCandsIdx": links["candIdx"]}
    path = jets.write(tmp_path / "a.root", made, layout="pfnano_raw", changed=changed)
    events = opened(path, schema=schema)
    shifted = build({"type": "ConstituentScale", "factor": 1.1})(events)
    # the first jet of each event has none here
    expected = np.where(np.asarray(objects.rows(events, SPEC)["rowObject"]) == 0, 1, 1.1)
    for name in ("pt", "mass"):
        np.testing.assert_allclose(ratio(shifted, events, f"FatJet.{name}"), expected, rtol=1e-6)
    groomed = flat(events, "FatJet.msoftdrop")
    np.testing.assert_allclose(flat(shifted, "FatJet.msoftdrop"), groomed * expected, rtol=1e-6)
    told = [r for r in caplog.records if "have no constituents stored, and stay" in r.message]
    assert len(told) == 1
    assert f"{(expected == 1).sum()} of {len(expected)} entries of FatJet" in told[0].message
    for name in ("FatJet.tau1", "FatJet.eta", "Jet.pt"):
        np.testing.assert_array_equal(flat(shifted, name), flat(events, name))


def test_one_factor_moves_what_is_computed_as_it_moves_the_branches(
    files: dict[str, Path], opened: Any
) -> None:
    pytest.importorskip("fastjet")
    events = opened(files["pfnano_raw"])
    shifted = build({"type": "ConstituentScale", "factor": 1.1})(events)
    computed = {**SPEC, "substructure": "computed"}
    names = ["tau21", "softdrop_mass", "c2"]
    for spec, known in ((SPEC, names[:2]), (computed, names)):
        before, after = (features.compute(known, objects.rows(e, spec)) for e in (events, shifted))
        for name in known:
            by = 1.1 if name == "softdrop_mass" else 1
            np.testing.assert_allclose(after[name], before[name] * by, rtol=1e-3, atol=2e-3, err_msg=name)


def test_branches_that_cannot_follow_are_refused(files: dict[str, Path], opened: Any, schema: str) -> None:
    pytest.importorskip("fastjet")
    events = opened(files["pfnano_raw"], schema=schema)
    shifted = build(KIND)(events)
    rows = objects.rows(shifted, SPEC)
    message = r"'FatJet.{}' is made of constituents that are shifted .*'substructure: computed' in 'objects'"
    for name, branch in (("tau21", "tau2"), ("softdrop_mass", "msoftdrop"), ("FatJet.tau3", "tau3")):
        for given in (rows, rows[::2]):
            with pytest.raises(InputError, match=message.format(branch)):
                features.compute(name, given)
    features.compute(["jet_pt", "jet_mass", "FatJet.eta", "c2", "n_constituents"], rows)
    names = ["tau21", "softdrop_mass"]
    spec = {**SPEC, "substructure": "computed"}
    before, after = (features.compute(names, objects.rows(e, spec)) for e in (events, shifted))
    for name in names:
        assert np.mean(before[name] != after[name]) > 0.5
    features.compute(names, objects.rows(events, SPEC))  # the events as they were may be asked


def test_scores_that_the_file_has_never_follow(
    jets: Any, made: dict[str, Any], tmp_path: Path, opened: Any
) -> None:
    changed = {"FatJet_particleNet_WvsQCD": made["Jet"]["tau1"]}
    events = opened(jets.write(tmp_path / "a.root", made, layout="pfnano_raw", changed=changed))
    for spec in (KIND, {"type": "ConstituentScale", "factor": 1.1}):
        rows = objects.rows(build(spec)(events), SPEC)
        with pytest.raises(InputError, match=r"'FatJet.particleNet_WvsQCD' is made of constituents"):
            features.compute("FatJet.particleNet_WvsQCD", rows)


def test_candidates_alone_and_candidates_of_nothing(files: dict[str, Path], opened: Any) -> None:
    events = opened(files["pfnano_raw"])
    alone = build({**KIND, "collection": None})(events)
    np.testing.assert_array_equal(flat(alone, "FatJet.pt"), flat(events, "FatJet.pt"))
    features.compute("tau21", objects.rows(alone, SPEC))
    other = events[[*events.fields]]
    other["GenCands"] = events["PFCands"]
    with pytest.raises(InputError, match=r"FatJet is made of PFCands, not of 'GenCands'.*collection: null"):
        build({**KIND, "candidates": "GenCands"})(other)
    other["SubJet"] = events["FatJet"]
    with pytest.raises(InputError, match=r"shift 'it': no constituents of 'SubJet'"):
        build({**KIND, "collection": "SubJet"})(other)


def test_jets_and_weights_are_those_of_the_analysis(files: dict[str, Path], opened: Any) -> None:
    events = opened(files["pfnano"])
    found = {}
    for puppi in ("raw", "weighted"):
        spec = {"collection": "FatJet", "puppi": puppi}
        shifted = shifts.build({"it": KIND}, objects=spec)["it"](events)
        found[puppi] = ratio(shifted, events, "FatJet.pt")
        before, after = (momenta(objects.rows(e, spec)) for e in (events, shifted))
        np.testing.assert_allclose(found[puppi], after.pt / before.pt, rtol=1e-4)
    assert np.mean(found["raw"] != found["weighted"]) > 0.3
    small = shifts.build({"it": KIND}, objects={"collection": "Jet"})["it"](events)
    np.testing.assert_array_equal(flat(small, "FatJet.pt"), flat(events, "FatJet.pt"))
    assert np.mean(ratio(small, events, "Jet.pt") != 1) > 0.5


def test_files_that_shifts_read(table: Path) -> None:
    specs = {
        "jes": {"type": "JetEnergyScale", "file": "c.json", **ETA_PT},
        "jer": {
            "type": "JetEnergyResolution",
            "resolution": {"file": "sub/r.json.gz", **ETA_PT},
            "factor": {"file": str(table / "c.json"), **ETA_PT},
        },
        "mine": "my_shifts.py:shift",
        "scale": {"type": "JetEnergyScale", "factor": 1.1},
    }
    assert shifts.files(specs, table) == [table / "c.json", table / "sub" / "r.json.gz"]
    assert shifts.files({}, table) == []


def test_a_shift_can_change_which_jet_leads(files: dict[str, Path], opened: Any, base: Path) -> None:
    events = opened(files["pfnano_raw"])
    (base / "swap.py").write_text(
        "import numpy as np\nfrom hepdecorr.columnar.shifts import multiplied\n"
        "from hepdecorr.columnar.features.branches import counts\n"
        "def swap(events):\n    n = counts(events, 'FatJet')\n"
        "    place = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)\n"
        "    return multiplied(events, 'FatJet', np.where(place == 0, 0.1, 1), fields=['pt'])\n"
    )
    rows = objects.rows(build("swap.py:swap", base)(events), {**SPEC, "leading": 1})
    many = np.asarray(ak.num(events["FatJet"]))[np.asarray(rows["rowEvent"])]
    np.testing.assert_array_equal(np.asarray(rows["rowObject"]) > 0, many > 1)


def test_the_collection_is_that_of_the_analysis(files: dict[str, Path], opened: Any) -> None:
    events = opened(files["pfnano_raw"])
    specs = {
        "its": {"type": "JetEnergyScale", "factor": 1.1},
        "other": {"type": "JetEnergyScale", "factor": 1.1, "collection": "FatJet"},
    }
    for name, shift in shifts.build(specs, collection="Jet").items():
        for collection in ("Jet", "FatJet"):
            hit = (collection == "Jet") == (name == "its")
            found = ratio(shift(events), events, f"{collection}.pt")
            np.testing.assert_allclose(found, 1.1 if hit else 1, rtol=1e-6)


# ---- resolution


def big(jets: Any, folder: Path, opened: Any) -> Any:
    made = jets.physics(1500, seed=5, start=7, jets=(1, 3), constituents=(1, 2))
    return opened(jets.write(folder / "big.root", made, layout="plain", basket=500))


def test_smearing_has_its_width_and_knows_no_chunks(jets: Any, tmp_path: Path, opened: Any) -> None:
    events = big(jets, tmp_path, opened)
    smear = build({"type": "JetEnergyResolution", "smearing": 0.1})
    found = ratio(smear(events), events, "FatJet.pt")
    assert len(found) > 2500
    assert found.mean() == pytest.approx(1, abs=0.008)
    assert found.std() == pytest.approx(0.1, rel=0.06)
    z = (found - 1) / 0.1
    assert (np.abs(z) > 1.96).mean() == pytest.approx(0.05, abs=0.015)
    massive = flat(events, "FatJet.mass") > 0.1
    np.testing.assert_allclose(
        ratio(smear(events), events, "FatJet.mass")[massive], found[massive], rtol=1e-5
    )
    parts = [ratio(smear(events[a:b]), events[a:b], "FatJet.pt") for a, b in ((0, 1), (1, 700), (700, 1500))]
    np.testing.assert_array_equal(np.concatenate(parts), found)
    assert len(np.unique(found.round(7))) > 0.99 * len(found)
    other = build({"type": "JetEnergyResolution", "smearing": 0.1, "seed": 1})
    assert abs(np.corrcoef(found, ratio(other(events), events, "FatJet.pt"))[0, 1]) < 0.1
    # jets of one event are smeared apart
    first, second = (
        ak.to_numpy(smear(events)["FatJet"]["pt"][ak.num(events["FatJet"]) > 1][:, i]) for i in (0, 1)
    )
    old = ak.to_numpy(events["FatJet"]["pt"][ak.num(events["FatJet"]) > 1][:, :2])
    assert abs(np.corrcoef(first / old[:, 0], second / old[:, 1])[0, 1]) < 0.1


def test_smearing_from_resolution_and_scale_factor(jets: Any, tmp_path: Path, opened: Any) -> None:
    events = big(jets, tmp_path, opened)
    plain = build({"type": "JetEnergyResolution", "smearing": 0.1 * np.sqrt(1.2**2 - 1)})
    both = build({"type": "JetEnergyResolution", "resolution": 0.1, "factor": 1.2})
    expected = ratio(plain(events), events, "FatJet.pt")
    np.testing.assert_allclose(ratio(both(events), events, "FatJet.pt"), expected, rtol=1e-6)
    below = build({"type": "JetEnergyResolution", "resolution": 0.1, "factor": 0.9})
    np.testing.assert_array_equal(ratio(below(events), events, "FatJet.pt"), np.ones(len(expected)))


# ---- correctionlib


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """corrections.json(.gz): 'eta_pt', two bins in |eta| with formulas of pt; 'named', by a word; 'flat'."""
    number = cs.Variable(name="pt", type="real")
    bins = cs.Binning(
        nodetype="binning",
        input="eta",
        edges=[-5.0, 0.0, 5.0],
        content=[
            cs.Formula(
                nodetype="formula", expression="0.01 + 0.00001*x", parser="TFormula", variables=["pt"]
            ),
            0.05,
        ],
        flow="error",
    )
    words = cs.Category(
        nodetype="category",
        input="which",
        content=[cs.CategoryItem(key="up", value=1.1), cs.CategoryItem(key="down", value=0.9)],
    )
    output = cs.Variable(name="out", type="real")
    eta, which = cs.Variable(name="eta", type="real"), cs.Variable(name="which", type="string")
    weight = cs.Variable(name="w", type="real")
    by_weight = cs.Formula(nodetype="formula", expression="x", parser="TFormula", variables=["w"])
    made = cs.CorrectionSet(
        schema_version=2,
        corrections=[
            cs.Correction(name="eta_pt", version=1, inputs=[eta, number], output=output, data=bins),
            cs.Correction(name="named", version=1, inputs=[which], output=output, data=words),
            cs.Correction(name="by_weight", version=1, inputs=[weight], output=output, data=by_weight),
        ],
    )
    folder = tmp_path_factory.mktemp("corrections")
    text = made.model_dump_json(exclude_unset=True)
    (folder / "c.json").write_text(text)
    (folder / "c.json.gz").write_bytes(gzip.compress(text.encode()))
    return folder


ETA_PT = {"correction": "eta_pt", "inputs": {"eta": "FatJet.eta", "pt": "FatJet.pt"}}


@pytest.mark.parametrize("file", ["c.json", "c.json.gz"])
@pytest.mark.parametrize(("direction", "sign"), [("up", 1), ("down", -1)])
def test_uncertainties_of_correctionlib(
    files: dict[str, Path], opened: Any, table: Path, schema: str, file: str, direction: str, sign: int
) -> None:
    events = opened(files["pfnano_raw"], schema=schema)
    spec = {"type": "JetEnergyScale", "file": file, "direction": direction, **ETA_PT}
    shift = build(spec, table)
    eta, pt = flat(events, "FatJet.eta"), flat(events, "FatJet.pt")
    expected = 1 + sign * np.where(eta < 0, 0.01 + 0.00001 * pt, 0.05)
    assert 0 < (eta < 0).sum() < len(eta)
    for ready in (shift, pickle.loads(cloudpickle.dumps(shift))):
        np.testing.assert_allclose(ratio(ready(events), events, "FatJet.pt"), expected, rtol=1e-5)


def test_factors_words_and_event_branches_of_correctionlib(
    files: dict[str, Path], opened: Any, table: Path
) -> None:
    events = opened(files["pfnano_raw"])
    named = {"type": "JetEnergyScale", "file": "c.json", "correction": "named", "inputs": {"which": "down"}}
    np.testing.assert_allclose(ratio(build(named, table)(events), events, "FatJet.pt"), 0.9, rtol=1e-6)
    spec = {
        "type": "JetEnergyScale",
        "file": "c.json",
        "correction": "by_weight",
        "inputs": {"w": "genWeight"},
    }
    weights = np.repeat(np.asarray(events["genWeight"]), ak.num(events["FatJet"]))
    np.testing.assert_allclose(ratio(build(spec, table)(events), events, "FatJet.pt"), weights, rtol=1e-6)
    smear = {
        "type": "JetEnergyResolution",
        "resolution": {"file": "c.json", **ETA_PT},
        "factor": {"file": "c.json", "correction": "named", "inputs": {"which": "up"}},
    }
    found = ratio(build(smear, table)(events), events, "FatJet.pt") - 1
    eta, pt = flat(events, "FatJet.eta"), flat(events, "FatJet.pt")
    width = np.where(eta < 0, 0.01 + 0.00001 * pt, 0.05) * np.sqrt(1.1**2 - 1)
    np.testing.assert_allclose(found, width * shifts.normal(events, "FatJet"), atol=1e-6)


# ---- the user's own, and mistakes


def test_functions_and_classes_of_the_user(files: dict[str, Path], opened: Any, base: Path) -> None:
    events = opened(files["pfnano_raw"])
    for spec in ("my_shifts.py:shift", {"type": "my_shifts.py:scaled", "factor": 1.5}):
        shifted = pickle.loads(cloudpickle.dumps(build(spec, base)))(events)
        np.testing.assert_allclose(ratio(shifted, events, "FatJet.mass"), 1.5, rtol=1e-6)
        np.testing.assert_array_equal(flat(shifted, "FatJet.pt"), flat(events, "FatJet.pt"))
    shifted = build({"type": "my_shifts.py:Mine", "factor": 2.0}, base)(events)
    np.testing.assert_array_equal(shifted["genWeight"], events["genWeight"] * 2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "JetEnergyScle", "factor": 1.1}, "no 'JetEnergyScle' .*did you mean 'JetEnergyScale'"),
        ({"type": "JetEnergyScale", "facter": 1.1}, "takes no 'facter'; did you mean 'factor'"),
        ({"type": "JetEnergyScale"}, "give 'factor', or 'file', 'correction' and 'inputs'"),
        ({"type": "JetEnergyScale", "factor": -1}, "factor must be a number above 0"),
        ({"type": "JetEnergyScale", "factor": float("nan")}, "factor must be a number above 0"),
        ({"type": "JetEnergyScale", "factor": 1.1, "direction": "up"}, "only for a correction"),
        ({"type": "JetEnergyResolution"}, "give 'smearing', or 'resolution' and 'factor'"),
        ({"type": "JetEnergyResolution", "resolution": 0.1}, "give 'smearing', or 'resolution' and 'factor'"),
        ({"type": "ConstituentScale"}, "needs 'factor'"),
        ({"factor": 1.1}, "say what it is with 'type: NAME'"),
        ("my_shifts.py:shft", "no 'shft' .*did you mean 'shift'"),
        ({"type": "my_shifts.py:scaled", "facter": 2}, "takes no 'facter'; did you mean 'factor'"),
        ("my_shifts.py:Lame", "is no function of the events"),
        ("absent.py:shift", "no file"),
    ],
)
def test_mistakes_in_the_block_are_named(base: Path, spec: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"shift 'it': .*{message}"):
        build(spec, base)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"file": "absent.json"}, "correction file .*absent.json: No such file"),
        ({"file": "bad.json"}, "bad.json: no file of correctionlib"),
        ({"correction": "eta_pd"}, "no correction 'eta_pd'; did you mean 'eta_pt'"),
        ({"inputs": {"eta": "FatJet.eta"}}, "correction 'eta_pt' also needs pt"),
        ({"inputs": {"eta": "FatJet.eta", "pt": "FatJet.pt", "phy": 1}}, "takes no 'phy'"),
        ({"inputs": {}}, "'inputs' is missing"),
    ],
)
def test_corrections_that_do_not_fit(table: Path, changed: Any, message: str) -> None:
    (table / "bad.json").write_text("{}")
    with pytest.raises(InputError, match=f"shift 'it': .*{message}"):
        build({"type": "JetEnergyScale", "file": "c.json", **ETA_PT, **changed}, table)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "JetEnergyScale", "factor": 1.1, "collection": "FatJets"}, "no collection 'FatJets'"),
        ({"type": "JetEnergyScale", "factor": 1.1, "fields": ["pt", "mas"]}, "no branch 'FatJet.mas'"),
        ({"type": "ConstituentScale", "factor": 1.1, "candidates": "Cands"}, "no collection 'Cands'"),
        ({"type": "ConstituentScale", "factor": 1.1}, "no candidates .*PFCands or PFCand"),
        ("my_shifts.py:fewer", "it must give back as many events as it got"),
        ("my_shifts.py:nothing", "it must give back as many events as it got"),
    ],
)
def test_what_the_events_have_not(
    files: dict[str, Path], opened: Any, base: Path, spec: Any, message: str
) -> None:
    with pytest.raises(InputError, match=f"shift 'it': .*{message}"):
        build(spec, base)(opened(files["plain"]))


def test_values_out_of_a_correction_s_range(files: dict[str, Path], opened: Any, table: Path) -> None:
    spec = {"type": "JetEnergyScale", "file": "c.json", **ETA_PT}
    spec["inputs"] = {"eta": "FatJet.pt", "pt": "FatJet.pt"}
    with pytest.raises(InputError, match=r"shift 'it': c.json: correction 'eta_pt': "):
        build(spec, table)(opened(files["plain"]))
