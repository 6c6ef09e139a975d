"""From files with jets to tables and histograms, through the shipped processors."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import awkward as ak
import numpy as np
import pytest
from coffea.nanoevents import NanoAODSchema, PFNanoAODSchema

from hepdecorr.catalogue import load_file
from hepdecorr.columnar import histograms, objects, rows
from hepdecorr.columnar.features import compute, per_constituent
from hepdecorr.columnar.filesets import Dataset, expand
from hepdecorr.columnar.running import run
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.table import Split, Table, fold

# coffea tells of every cross-reference that a file has not.
pytestmark = pytest.mark.filterwarnings("ignore:Missing cross-reference|.*already exists:RuntimeWarning")

ROOT = Path(__file__).parents[3]
SPEC = {"collection": "FatJet", "puppi": "auto"}
CONSTITUENTS = {"features": ["log_pt", "deta", "dphi", "charge"], "length": 12}
NUISANCES = {"mass": {"feature": "FatJet.mass", "low": 0.0, "high": 300.0, "bins": 6, "unit": "GeV"}}
CUT = {"feature": "FatJet.pt", "min": 500.0}
TRUTH = {"feature": "FatJet.genFlavour", "any_of": [24, -24]}
SPLIT = Split(10, (0,), (5, 6, 7, 8, 9))
SHIFTS = {
    "jes_up": {"type": "JetEnergyScale", "factor": 1.1},
    "jer": {"type": "JetEnergyResolution", "smearing": 0.1},
    "candidates": {"type": "ConstituentScale", "factor": 1.3},
}


@pytest.fixture(scope="module")
def taggers() -> ModuleType:
    return load_file(Path(__file__).with_name("making_taggers.py"))


@pytest.fixture(scope="module")
def table_processor() -> Any:
    return load_file(ROOT / "processors" / "training_table.py").TrainingTable


@pytest.fixture(scope="module")
def sculpting() -> Any:
    return load_file(ROOT / "processors" / "sculpting.py").Sculpting


@pytest.fixture(scope="module")
def folder(jets: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples")
    for i, name in enumerate(("w", "qcd")):
        made = jets.physics(120, process=name, seed=i, start=1000 * i)
        jets.write(path / f"{name}.root", made, layout="pfnano_raw")
        jets.write(path / f"{name}_v15.root", made, layout="v15")
        jets.write(path / f"{name}_plain.root", made, layout="plain")
    return path


def fileset(folder: Path, *, bkg: str = "qcd.root", **signal: Any) -> list[Dataset]:
    spec = {
        "w": {"files": "w.root", "label": "signal", "selection": [TRUTH], **signal},
        "qcd": {"files": bkg, "label": "background", "xsec": 3.0, "sumw": 150.0},
    }
    return expand(spec, base=folder)


@pytest.fixture(scope="module")
def models(
    taggers: ModuleType,
    making: ModuleType,
    folder: Path,
    opened: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Taggers that cut in the midst of what they give."""
    plain = {"features": taggers.FEATURES, "constituents": (), "conventions": {"collection": "FatJet"}}
    arguments = {"sets": {"features": taggers.FEATURES, "length": 12}, "taus": plain}
    found = {}
    for name, given in arguments.items():
        points: dict[str, Any] = {}
        for _ in range(2):
            card = taggers.card(**given, **points)
            content = taggers.model(of=card) if name == "sets" else making.model(of=card, width=2)
            middle = float(np.median(ak.flatten(OnnxTagger(content).logit(opened(folder / "w.root")))))
            points = {"working_points": [card.working_points[0].model_dump() | {"threshold": middle}]}
        found[name] = tmp_path_factory.mktemp(name)
        (found[name] / "tagger.onnx").write_bytes(content)
    return found


def make(processor: Any, datasets: list[Dataset], folder: Path, **options: Any) -> Table:
    running = {k: options.pop(k) for k in ("executor", "workers", "chunksize", "schema") if k in options}
    running = {"schema": PFNanoAODSchema, "chunksize": 45, **running}
    arguments = {"objects": SPEC, "constituents": CONSTITUENTS, "features": ["FatJet.tau1"]}
    made = processor(folder=folder, nuisances=NUISANCES, **{**arguments, **options})
    found = run(datasets, made, **running)
    assert found.report.complete
    return rows.finish_table(
        found.out["chunks"],
        folder=folder,
        columns=made.columns,
        datasets=datasets,
        provenance={"conventions": {"schema": "PFNanoAODSchema"}, "config": "x"},
    )


def by_hand(path: Path, opened: Any, *, leading: int | None = None, shift: Any = None) -> dict[str, Any]:
    """What each row should be, with numpy from plain lists."""
    events = opened(path)
    events = events if shift is None else shift(events)
    found: dict[str, list[Any]] = {k: [] for k in ("event", "object", "weight", "mass", "pt", "genFlavour")}
    fields = {k: events["FatJet"][k].tolist() for k in ("mass", "pt", "genFlavour")}
    for i, number in enumerate(events["event"].tolist()):
        order = np.argsort(-np.array(fields["pt"][i]), kind="stable")[:leading]
        for j in sorted(order.tolist()):
            found["event"].append(number)
            found["object"].append(j)
            found["weight"].append(float(events["genWeight"][i]))
            for k, values in fields.items():
                found[k].append(values[i][j])
    return {k: np.array(v) for k, v in found.items()}


# ---- the training table


def test_a_row_is_a_jet(table_processor: Any, folder: Path, tmp_path: Path, opened: Any) -> None:
    datasets = fileset(folder)
    table = make(table_processor, datasets, tmp_path / "t", selection=[CUT], weights=["genWeight"])
    assert table.names("id") == ["run", "luminosityBlock", "event", "fold", "object"]
    assert table.names("constituent") == [f"constituents.{n}" for n in CONSTITUENTS["features"]]
    assert table.names("count") == ["constituents.count"]
    assert {c.length for c in table.columns if c.role == "constituent"} == {12}
    found = table.read()
    for label, name in ((1, "w"), (0, "qcd")):
        raw = by_hand(folder / f"{name}.root", opened)
        keep = raw["pt"] >= 500
        scale = 1.0 if label else 3.0 / 150.0
        ours = found["label"] == label
        order = np.lexsort((found["object"][ours], found["event"][ours]))
        assert 20 < keep.sum() < len(keep)
        for column, values in {
            "event": raw["event"],
            "object": raw["object"],
            "mass": raw["mass"],
            "weight": raw["weight"] * scale,
        }.items():
            np.testing.assert_allclose(found[column][ours][order], values[keep], rtol=1e-6, err_msg=column)
    assert found["object"].dtype == found["constituents.count"].dtype == np.int16
    assert table.provenance["conventions"] == {"collection": "FatJet", "candidates": "raw"}
    assert table.provenance["config"] == "x"


def test_events_and_their_weights_count_once(
    table_processor: Any, folder: Path, tmp_path: Path, opened: Any
) -> None:
    table = make(table_processor, fileset(folder), tmp_path / "t", selection=[CUT], weights=["genWeight"])
    for name in ("w", "qcd"):
        events = opened(folder / f"{name}.root")
        about = table.datasets[name]
        jets = int(ak.sum(ak.num(events["FatJet"])))
        assert about["events"] == 120 != jets
        assert about["cutflow"]["all"] == jets
        assert about["cutflow"]["500 <= FatJet.pt"] == about["rows"]
        assert about["read_sumw"] == pytest.approx(float(ak.sum(events["genWeight"])))
    assert table.datasets["w"]["cutflow"]["FatJet.genFlavour in 24, -24"] == table.datasets["w"]["rows"]
    assert table.datasets["w"]["selection"] == [TRUTH]


def test_jets_of_an_event_stay_in_one_fold(table_processor: Any, folder: Path, tmp_path: Path) -> None:
    found = make(table_processor, fileset(folder), tmp_path / "t").read()
    ids = (found["run"], found["luminosityBlock"], found["event"])
    np.testing.assert_array_equal(found["fold"], fold(*ids))
    assert len(np.unique(found["event"])) < len(found["event"])


def test_constituents_are_padded_counted_and_left_out(
    table_processor: Any, folder: Path, tmp_path: Path, opened: Any
) -> None:
    table = make(table_processor, fileset(folder)[:1], tmp_path / "t", chunksize=1000)
    found = table.read()
    jets = objects.rows(opened(folder / "w.root"), SPEC)
    x, mask, dropped = per_constituent.prepare(jets, CONSTITUENTS["features"], length=12)
    for i, name in enumerate(CONSTITUENTS["features"]):
        column = found[f"constituents.{name}"]
        assert (column.shape, column.dtype) == ((len(jets), 12), np.float32)
        np.testing.assert_array_equal(column, x[:, :, i])
    count = found["constituents.count"]
    np.testing.assert_array_equal(np.arange(12) < count[:, None], mask)
    assert count.max() == 12 > count.min()
    assert table.datasets["w"]["cutflow"]["constituents beyond 12"] == dropped > 0


def test_leading_jets_and_features_alone(
    table_processor: Any, folder: Path, tmp_path: Path, opened: Any
) -> None:
    options = {"objects": {**SPEC, "leading": 1}, "constituents": None, "schema": NanoAODSchema}
    table = make(table_processor, fileset(folder)[:1], tmp_path / "t", **options)
    raw = by_hand(folder / "w.root", opened, leading=1)
    np.testing.assert_array_equal(table.read()["event"], raw["event"])
    assert len(np.unique(raw["event"])) == len(raw["event"]) == table.rows
    assert not table.names("constituent")
    assert not table.names("count")


def test_chunks_change_no_table(table_processor: Any, folder: Path, tmp_path: Path) -> None:
    one = make(table_processor, fileset(folder), tmp_path / "one", selection=[CUT])
    other = make(table_processor, fileset(folder), tmp_path / "other", selection=[CUT], chunksize=17)
    assert one.datasets == other.datasets
    for name, values in one.read().items():
        np.testing.assert_array_equal(values, other.read()[name], err_msg=name)


def test_jets_without_constituents_are_in_the_cutflow(
    table_processor: Any, jets: ModuleType, folder: Path, tmp_path: Path
) -> None:
    made = jets.physics(50, seed=9)
    kept = made["JetLink"][made["JetLink"]["jetIdx"] > 0]
    links = {"FatJetPFCands_jetIdx": kept["jetIdx"], "FatJetPFCands_pFCandsIdx": kept["candIdx"]}
    jets.write(tmp_path / "w.root", made, layout="pfnano_raw", changed=links)
    datasets = expand({"w": {"files": "w.root", "label": "signal"}}, base=tmp_path, labels=False)
    table = make(table_processor, datasets, tmp_path / "t")
    first = table.read()["object"] == 0
    assert table.datasets["w"]["cutflow"]["jets without constituents"] == first.sum() > 0
    np.testing.assert_array_equal(table.read()["constituents.count"][first], 0)


def test_files_of_two_conventions_make_no_table(table_processor: Any, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"qcd_v15.root and .*w.root differ in their candidates"):
        make(table_processor, fileset(folder, bkg="qcd_v15.root"), tmp_path / "t", schema=NanoAODSchema)
    assert not (tmp_path / "t" / "manifest.json").exists()


def test_files_without_what_is_wanted(table_processor: Any, folder: Path, tmp_path: Path) -> None:
    plain = fileset(folder, files="w_plain.root")[:1]
    with pytest.raises(InputError, match=r"w_plain.root .*no constituents of 'FatJet'"):
        make(table_processor, plain, tmp_path / "t", schema=NanoAODSchema)
    table = make(table_processor, plain, tmp_path / "u", schema=NanoAODSchema, constituents=None)
    assert table.provenance["conventions"] == {"collection": "FatJet"}
    with pytest.raises(InputError, match=r"w_plain.root .*no collection 'FatJets'; did you mean 'FatJet'"):
        make(table_processor, plain, tmp_path / "v", schema=NanoAODSchema, objects={"collection": "FatJets"})


def test_events_without_jets_make_no_rows(table_processor: Any, jets: ModuleType, tmp_path: Path) -> None:
    made = jets.physics(60, seed=1, jets=(0, 0))
    more = jets.physics(3, seed=2, start=60, jets=(1, 1))
    both = {k: ak.concatenate([made[k], more[k]]) for k in more}
    both |= {k: np.concatenate([made[k], more[k]]) for k in jets.EVENT}
    jets.write(tmp_path / "w.root", both, layout="pfnano_raw")
    datasets = expand({"w": {"files": "w.root", "label": "signal"}}, base=tmp_path, labels=False)
    table = make(table_processor, datasets, tmp_path / "t", chunksize=20)
    assert (table.rows, table.datasets["w"]["events"], len(table.shards)) == (3, 63, 1)


# ---- histograms under shifts


def apply(sculpting: Any, models: Any, datasets: list[Dataset], **options: Any) -> Any:
    running = {k: options.pop(k) for k in ("executor", "workers", "chunksize", "schema") if k in options}
    arguments = {"objects": SPEC, "selection": [CUT], "weights": ["genWeight"], "nuisances": NUISANCES}
    made = sculpting(taggers=models, **{**arguments, **options})
    found = run(datasets, made, **{"schema": PFNanoAODSchema, "chunksize": 45, **running})
    assert found.report.complete
    return made, found.out


def test_everything_is_done_again_under_a_shift(
    sculpting: Any, models: Any, folder: Path, opened: Any, tmp_path: Path
) -> None:
    options = {"shifts": SHIFTS, "split": SPLIT, "folder": tmp_path / "scores"}
    made, out = apply(sculpting, models, fileset(folder), **options)
    histogram = out["histograms"]["mass"]
    assert list(histogram.axes["systematic"]) == ["nominal", *SHIFTS]
    events = opened(folder / "w.root")
    totals = {}
    for name, shift in {"nominal": lambda e: e, **made.shifts}.items():
        jets = objects.rows(shift(events), SPEC)
        columns = compute(["FatJet.pt", "FatJet.mass", "genWeight"], jets)
        test = np.isin(rows.identifiers(jets)["fold"], SPLIT.test)
        keep = (columns["FatJet.pt"] >= 500) & test
        for tagger, path in models.items():
            passes = np.asarray(OnnxTagger(path).passes(jets, rejection=0.5))
            for category, mask in (("before", keep), ("pass 0.5", keep & passes)):
                values, weights = columns["FatJet.mass"][mask], columns["genWeight"][mask]
                expected, _ = np.histogram(values, bins=histogram.axes["mass"].edges, weights=weights)
                found = histogram["w", name, tagger, category, :].values()
                np.testing.assert_allclose(found, expected, err_msg=f"{name} {tagger} {category}")
                totals[name, tagger, category] = tuple(found)
    assert len({totals[s, "sets", "before"] for s in ("nominal", "jes_up", "jer")}) == 3
    assert totals["candidates", "sets", "before"] != totals["nominal", "sets", "before"]
    assert totals["candidates", "sets", "pass 0.5"] != totals["nominal", "sets", "pass 0.5"]


def test_scores_are_those_of_the_events_as_they_are(
    sculpting: Any, models: Any, folder: Path, tmp_path: Path, opened: Any
) -> None:
    tables = []
    for name, shifts in (("with", SHIFTS), ("without", None)):
        datasets = fileset(folder)
        options = {"folder": tmp_path / name, "split": SPLIT, "shifts": shifts}
        made, out = apply(sculpting, models, datasets, **options)
        tables.append(
            rows.finish_table(
                out["chunks"], folder=tmp_path / name, columns=made.columns, datasets=datasets, provenance={}
            )
        )
    one, other = tables
    assert one.fingerprint == other.fingerprint
    assert one.datasets == other.datasets
    assert one.provenance["conventions"] == {"collection": "FatJet", "candidates": "raw"}
    found = one.read()
    signal = found["label"] == 1
    scores = OnnxTagger(models["sets"]).logit(opened(folder / "w.root"))
    places = zip(found["event"][signal].tolist(), found["object"][signal].tolist(), strict=True)
    np.testing.assert_array_equal(found["sets"][signal], [scores[event][j] for event, j in places])
    assert one.datasets["w"]["cutflow"]["test"] == signal.sum()


@pytest.mark.parametrize("options", [{"chunksize": 17}, {"executor": "futures", "workers": 1}])
def test_chunks_and_processes_change_no_histogram(
    sculpting: Any, models: Any, folder: Path, options: Any
) -> None:
    _, one = apply(sculpting, models, fileset(folder), shifts=SHIFTS)
    _, other = apply(sculpting, models, fileset(folder), shifts=SHIFTS, **options)
    first, second = one["histograms"]["mass"], other["histograms"]["mass"]
    assert first.axes == second.axes
    for field in ("value", "variance"):
        # of weights that are no powers of two the sum knows its order
        np.testing.assert_allclose(first.view(flow=True)[field], second.view(flow=True)[field], rtol=1e-12)
    assert histograms.nominal(first).axes.name == ("dataset", "tagger", "category", "mass")


def test_a_shift_that_cannot_be_names_itself_and_the_file(sculpting: Any, models: Any, folder: Path) -> None:
    shifts = {"lost": {"type": "JetEnergyScale", "factor": 1.1, "collection": "Jetti"}}
    with pytest.raises(InputError, match=r"w.root .*shift 'lost': .*no collection 'Jetti'"):
        apply(sculpting, models, fileset(folder), shifts=shifts)


def test_a_v15_file_and_a_tagger_of_raw_candidates(sculpting: Any, models: Any, folder: Path) -> None:
    datasets = fileset(folder, files="w_v15.root")[:1]
    with pytest.raises(InputError, match=r"candidates 'raw', .*w_v15.root .* came with 'weighted'"):
        apply(sculpting, models, datasets, schema=NanoAODSchema)
    plain = fileset(folder, files="w_plain.root")[:1]
    with pytest.raises(InputError, match=r"w_plain.root .*needs the constituents of FatJet"):
        apply(sculpting, models, plain, schema=NanoAODSchema)
    _, out = apply(sculpting, {"taus": models["taus"]}, plain, schema=NanoAODSchema)
    assert out["histograms"]["mass"].sum(flow=True).value > 0
