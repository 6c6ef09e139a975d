"""Other collections than FatJet, and files with something wrong, through table and tagger."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import awkward as ak
import numpy as np
import pytest
from coffea.nanoevents import BaseSchema, NanoAODSchema, PFNanoAODSchema

from hepdecorr.catalogue import load_file
from hepdecorr.columnar import objects, rows
from hepdecorr.columnar.features import compute, per_constituent
from hepdecorr.columnar.filesets import Dataset, expand
from hepdecorr.columnar.running import run
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.table import Table

# coffea tells of every cross-reference that a file has not.
pytestmark = pytest.mark.filterwarnings("ignore:Missing cross-reference|.*already exists:RuntimeWarning")

ROOT = Path(__file__).parents[3]
SCHEMAS = [NanoAODSchema, PFNanoAODSchema, BaseSchema]
CONSTITUENTS = {"features": ["log_pt", "deta", "dphi", "charge"], "length": 12}
NUISANCES = {"mass": {"feature": "jet_mass", "low": 0.0, "high": 300.0, "bins": 6, "unit": "GeV"}}
SPEC = {"collection": "FatJet", "puppi": "auto"}
SHAPES = ["jet_pt", "c2", "n_constituents"]


@pytest.fixture(scope="module")
def taggers() -> ModuleType:
    return load_file(Path(__file__).with_name("making_taggers.py"))


def one(path: Path) -> list[Dataset]:
    return expand({"d": {"files": path.name, "label": "signal"}}, base=path.parent, labels=False)


def table(path: Path, folder: Path, *, schema: Any, **options: Any) -> Table:
    processor = load_file(ROOT / "processors" / "training_table.py").TrainingTable
    given = {"objects": {"collection": "FatJet"}, "constituents": CONSTITUENTS, "features": SHAPES, **options}
    made = processor(folder=folder, nuisances=NUISANCES, **given)
    out = run(one(path), made, schema=schema, chunksize=17).out
    return rows.finish_table(
        out["chunks"], folder=folder, columns=made.columns, datasets=one(path), provenance={}
    )


def histograms(path: Path, model: Path, *, schema: Any, **options: Any) -> Any:
    processor = load_file(ROOT / "processors" / "sculpting.py").Sculpting
    given = {"objects": {"collection": "FatJet"}, "nuisances": NUISANCES, **options}
    return run(one(path), processor(taggers={"t": model}, **given), schema=schema, chunksize=17).out


def saved(taggers: ModuleType, folder: Path, **card: Any) -> Path:
    path = folder / "tagger.onnx"
    path.write_bytes(taggers.model(of=taggers.card(**card)))
    return path


def renamed(jets: ModuleType, made: Any, path: Path, name: str) -> Path:
    """The FatJets of `made` and their links under another name."""
    flat = jets.branches(made, layout="pfnano_raw")
    old = [k for k in flat if k.startswith("FatJet")]
    changed = {name + k.removeprefix("FatJet"): flat[k] for k in old}
    return Path(jets.write(path, made, layout="pfnano_raw", without=tuple(old), changed=changed))


# ---- other collections


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("name", ["Jet", "LargeJet"])
def test_collections_of_any_name(
    taggers: ModuleType, jets: ModuleType, made: Any, tmp_path: Path, opened: Any, schema: Any, name: str
) -> None:
    path = tmp_path / "jets.root"
    if name == "Jet":
        jets.write(path, made, layout="pfnano")
    else:
        renamed(jets, made, path, name)
    spec = {"collection": name, "puppi": "auto", **({} if name == "Jet" else {"radius": 1.0})}
    found = table(path, tmp_path / "t", schema=schema, objects=spec)
    assert found.provenance["conventions"] == {
        "collection": name,
        "candidates": "raw",
        "n_constituents": "computed",
    }
    events = opened(path)
    same = objects.rows(
        opened(jets.write(tmp_path / "fat.root", made, layout="pfnano_raw")),
        {"collection": "FatJet", "radius": 0.4},
    )
    # candidates of `Jet` in PFNano and those of FatJet in the file without weights are the same jets
    expected = compute(["n_constituents", "c2"], same)
    x = per_constituent.prepare(same, CONSTITUENTS["features"], length=12).x
    columns = found.read()
    order = np.lexsort((columns["object"], columns["event"]))
    for key, values in expected.items():
        np.testing.assert_allclose(columns[key][order], values, rtol=1e-5, err_msg=key)
    for i, key in enumerate(CONSTITUENTS["features"]):
        np.testing.assert_allclose(columns[f"constituents.{key}"][order], x[:, :, i], rtol=1e-4, atol=1e-5)

    card = {"objects": spec, "conventions": {"collection": name, "candidates": "raw"}}
    model = saved(taggers, tmp_path, features=("n_constituents",), **card)
    scores = OnnxTagger(model)(events)
    assert ak.num(scores).tolist() == ak.num(events[name]).tolist()
    fat = OnnxTagger(taggers.model(of=taggers.card(features=("n_constituents",))))
    np.testing.assert_allclose(ak.flatten(scores), fat(objects.rows(objects.source(same), SPEC)), atol=1e-5)
    out = histograms(path, model, schema=schema, objects=spec)
    assert out["histograms"]["mass"]["d", "nominal", "t", "before", sum].value == len(x)


# ---- something is wrong


def weird(jets: ModuleType, made: Any, folder: Path, kind: str) -> Path:
    """A file where something is wrong, named after it."""
    flat = jets.branches(made, layout="pfnano_raw")

    def where(branch: str, value: Any) -> dict[str, Any]:
        return {
            branch: ak.values_astype(flat[branch] * 0 + value, ak.type(flat[branch][0][:1]).content.primitive)
        }

    changed: dict[str, Any] = {
        "nan_pt": lambda: where("PFCands_pt", np.nan),
        "nan_eta": lambda: where("PFCands_eta", np.nan),
        "negative_pt": lambda: where("PFCands_pt", -1),
        "no_such_jet": lambda: where("FatJetPFCands_jetIdx", 7),
        "no_such_candidate": lambda: where("FatJetPFCands_pFCandsIdx", 9999),
        "negative_link": lambda: where("FatJetPFCands_pFCandsIdx", -1),
        "nan_jet": lambda: where("FatJet_eta", np.nan),
        "negative_mass": lambda: where("FatJet_mass", -3.0),
    }[kind]()
    return Path(jets.write(folder / f"{kind}.root", made, layout="pfnano_raw", changed=changed))


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan_pt", r"branch 'PFCands.pt': nan for candidate \d+ in event \d+ of the chunk"),
        ("nan_eta", r"branch 'PFCands.eta': nan for candidate \d+ in event \d+ of the chunk"),
        ("negative_pt", r"branch 'PFCands.pt': -1 for candidate \d+ in event \d+"),
        ("no_such_jet", r"branch 'FatJetPFCands.jetIdx' points at FatJet 7 in event \d+ .*, which has \d"),
        ("no_such_candidate", r"branch 'FatJetPFCands.pFCandsIdx' points at PFCands 9999 in event \d+"),
        ("negative_link", r"branch 'FatJetPFCands.pFCandsIdx' points at PFCands -1 in event \d+"),
        ("nan_jet", r"branch 'FatJet.eta': nan in row \d+"),
    ],
)
def test_what_is_wrong_names_file_and_branch(
    taggers: ModuleType, jets: ModuleType, made: Any, tmp_path: Path, schema: Any, kind: str, message: str
) -> None:
    path = weird(jets, made, tmp_path, kind)
    with pytest.raises(InputError, match=rf"{kind}.root .*{message}"):
        table(path, tmp_path / "t", schema=schema)
    model = saved(taggers, tmp_path)
    with pytest.raises(InputError, match=rf"{kind}.root .*{message}"):
        histograms(path, model, schema=schema)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_jets_of_negative_mass_squared_count_as_massless(
    taggers: ModuleType, jets: ModuleType, made: Any, tmp_path: Path, opened: Any, schema: Any
) -> None:
    path = weird(jets, made, tmp_path, "negative_mass")
    constituents = {"features": ["log_e_rel", "log_pt"], "length": 12}
    found = table(path, tmp_path / "t", schema=schema, features=["rho"], constituents=constituents)
    flow = found.datasets["d"]["cutflow"]
    assert flow["FatJet.mass negative or not finite, 0 taken"] == found.rows > 0
    assert flow["jets of negative mass taken as massless"] == found.rows
    assert (found.read()["mass"] == 0).all()
    massless = jets.write(
        tmp_path / "zero.root", made, layout="pfnano_raw", changed={"FatJet_mass": made["Jet"]["mass"] * 0}
    )
    card = {"features": ("rho",), "constituents": ("log_e_rel", "log_pt", "deta", "charge")}
    tagger = OnnxTagger(taggers.model(of=taggers.card(**card)))
    scores = tagger(opened(path, schema=schema.__name__))
    assert scores.tolist() == tagger(opened(massless)).tolist()
    jets_ = objects.rows(opened(path), SPEC)
    assert tagger.notes(jets_)["FatJet.mass negative or not finite, 0 taken"] == len(jets_)
    out = histograms(path, saved(taggers, tmp_path, **card), schema=schema)
    cutflow = rows.summaries(out["chunks"])["d"]["cutflow"]
    assert cutflow["FatJet.mass negative or not finite, 0 taken"] == len(jets_)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_v15_and_plain_files_under_every_schema(
    taggers: ModuleType, files: dict[str, Path], tmp_path: Path, schema: Any
) -> None:
    raw = saved(taggers, tmp_path)
    with pytest.raises(
        InputError, match=r"trained with candidates 'raw', .*v15.root .* came with 'weighted'"
    ):
        histograms(files["v15"], raw, schema=schema)
    with pytest.raises(InputError, match=r"plain.root .*needs the constituents of FatJet"):
        histograms(files["plain"], raw, schema=schema)
    weighted = saved(taggers, tmp_path, conventions={"collection": "FatJet", "candidates": "weighted"})
    first = histograms(files["v15"], weighted, schema=schema)["histograms"]["mass"]
    other = histograms(files["pfnano"], weighted, schema=schema)["histograms"]["mass"]
    np.testing.assert_allclose(first.values(flow=True), other.values(flow=True))
    assert first.sum(flow=True).value > 0


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("layout", ["pfnano_raw", "v15"])
def test_nobody_needs_n_constituents(
    taggers: ModuleType, jets: ModuleType, made: Any, tmp_path: Path, opened: Any, schema: Any, layout: str
) -> None:
    kind = {"pfnano_raw": "raw", "v15": "weighted"}[layout]
    card = {"features": ("n_constituents",), "conventions": {"collection": "FatJet", "candidates": kind}}
    tagger = OnnxTagger(taggers.model(of=taggers.card(**card)))
    with_, without = (
        jets.write(tmp_path / f"{i}.root", made, layout=layout, without=left)
        for i, left in enumerate(((), ("FatJet_nConstituents",)))
    )
    scores = tagger(opened(without, schema=schema.__name__))
    assert scores.tolist() == tagger(opened(with_)).tolist()
    found = table(without, tmp_path / "t", schema=schema)
    counts = found.read()["n_constituents"]
    np.testing.assert_array_equal(np.minimum(counts, 12), found.read()["constituents.count"])
    plain = jets.write(tmp_path / "p.root", made, layout="plain", without=("FatJet_nConstituents",))
    with pytest.raises(
        InputError, match=r"p.root .*feature 'n_constituents': no branch 'FatJet.nConstituents'"
    ):
        table(plain, tmp_path / "u", schema=schema, features=["n_constituents"], constituents=None)
