"""The tagger: same score however the events come, and a refusal where it would be wrong."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import awkward as ak
import numpy as np
import pytest
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory
from coffea.processor import ProcessorABC
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdecorr.columnar import features, sessions
from hepdecorr.columnar.running import run
from hepdecorr.columnar.schemas import BsgammaSchema
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.table import Column, Table, write_manifest, write_shard

KINDS = ("mlp", "elu", "conv", "lstm")


@pytest.fixture(scope="module")
def ntuple(making: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = making.write_ntuple(tmp_path_factory.mktemp("data") / "a.root", 800)
    return path


def read(path: Path, mode: str = "eager", **options: Any) -> Any:
    options = {"schemaclass": BsgammaSchema, **options}
    return NanoEventsFactory.from_root({str(path): "Events"}, mode=mode, **options).events()


@pytest.fixture(scope="module")
def events(ntuple: Path) -> Any:
    return read(ntuple)


@pytest.fixture(scope="module")
def toy(making: ModuleType, code: Path) -> OnnxTagger:
    return OnnxTagger(making.model(), base=code)


@pytest.fixture(scope="module")
def x() -> Any:
    return np.random.default_rng(5).normal(size=(1000, 3)).astype("f4")


# ---- arrays


def test_scores_are_the_sigmoid_of_logits(toy: OnnxTagger, x: Any) -> None:
    scores, logits = toy.scores(x), toy.logits(x)
    assert scores.shape == logits.shape == (1000,)
    assert scores.dtype == logits.dtype == np.float32
    assert np.ptp(logits) > 1
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits.astype("f8"))), atol=3e-7)
    np.testing.assert_array_equal(toy(x), scores)


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_give_no_scores(making: ModuleType, kind: str) -> None:
    # ONNX Runtime itself would raise, or abort the process
    found = OnnxTagger(making.model(kind)).scores(np.empty((0, 3), "f4"))
    assert found.shape == (0,)
    assert found.dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
@given(cuts=st.lists(st.integers(0, 1000), max_size=6), batch_size=st.sampled_from([1, 3, 16, 100, 4096]))
@settings(max_examples=25, deadline=None)
def test_scores_do_not_depend_on_chunks(
    making: ModuleType, x: Any, kind: str, cuts: list[int], batch_size: int
) -> None:
    content = making.model(kind)
    whole = OnnxTagger(content).logits(x)
    batched = OnnxTagger(content, batch_size=batch_size)
    parts = [batched.logits(part) for part in np.split(x, sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("dtype", ["f8", "f2", "i4", "i8", "u1", "?"])
def test_numbers_of_any_type_are_cast(toy: OnnxTagger, dtype: str) -> None:
    values = np.arange(12).reshape(4, 3).astype(dtype)
    np.testing.assert_array_equal(toy.scores(values), toy.scores(values.astype("f4")))
    assert np.ptp(toy.scores(values)) >= 0


def test_strided_and_readonly_arrays(toy: OnnxTagger, x: Any) -> None:
    flipped = np.asfortranarray(x)[::2]
    flipped.setflags(write=False)
    np.testing.assert_array_equal(toy.scores(flipped), toy.scores(x)[::2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ma.masked_array(np.ones((2, 3)), mask=[[0, 1, 0], [0, 0, 0]]), "masked array"),
        (np.ma.masked_array(np.ones((2, 3))), "masked array"),
        (np.ones((2, 4)), r"shape \(2, 4\); the tagger takes \(events, 3\)"),
        (np.ones(3), r"shape \(3,\)"),
        (np.array([["a", "b", "c"]]), "are no numbers"),
    ],
)
def test_what_would_be_scored_wrongly_is_refused(toy: OnnxTagger, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        toy.scores(given)
    with pytest.raises(InputError, match=message):
        toy(given)


# ---- events


def test_events_and_their_matrix_agree(
    toy: OnnxTagger, events: Any, ntuple: Path, making: ModuleType
) -> None:
    matrix = toy.inputs(events)
    branches = making.columns(800)
    rho = branches["Bcand_mbc"] * branches["Bcand_pStar"]
    np.testing.assert_array_equal(
        matrix, np.stack([branches["Bcand_deltaE"], branches["Bcand_pStar"], rho], axis=1)
    )
    score, logit = toy(events), toy.logit(events)
    assert isinstance(score, ak.Array)
    np.testing.assert_array_equal(score, toy.scores(matrix))
    np.testing.assert_array_equal(logit, toy.logits(matrix))
    np.testing.assert_array_equal(toy.passes(events, rejection=0.5), logit > 0)
    assert 0 < ak.sum(toy.passes(events)) < ak.sum(toy.passes(events, rejection=0.5)) < 800
    events["score"] = score  # what a user does with it
    assert len(events.score) == 800


def test_a_tagger_of_two_networks_gives_a_plane(
    toy: OnnxTagger, events: Any, making: ModuleType, code: Path
) -> None:
    outputs = ("score", "logit", "logit_1", "logit_2")
    double = OnnxTagger(making.model(of=making.card(outputs=outputs), outputs=outputs), base=code)
    plane = double.plane(events)
    np.testing.assert_array_equal(plane.logit_1, double.logit(events))
    np.testing.assert_array_equal(plane.logit_2, -double.logit(events))
    x = double.inputs(events)
    np.testing.assert_array_equal(double.plane(x), np.stack([plane.logit_1, plane.logit_2], 1))
    assert double.plane(x[:0]).shape == (0, 2)
    with pytest.raises(InputError, match="tagger toy has one score and no plane"):
        toy.plane(events)


def test_virtual_events_read_only_what_is_needed(toy: OnnxTagger, events: Any, ntuple: Path) -> None:
    log: list[Any] = []
    virtual = read(ntuple, "virtual", access_log=log)
    np.testing.assert_array_equal(toy(virtual), toy(events))
    assert {entry.branch for entry in log} == {"Bcand_deltaE", "Bcand_pStar", "Bcand_mbc"}


@pytest.mark.parametrize("mode", ["eager", "virtual"])
def test_masked_and_empty_selections(toy: OnnxTagger, ntuple: Path, mode: str) -> None:
    events = read(ntuple, mode)
    keep = np.asarray(events["Bcand"]["deltaE"]) > 0.3
    np.testing.assert_array_equal(toy(events[keep]), np.asarray(toy(events))[keep])
    assert len(toy(events[:0])) == 0
    assert len(toy.passes(events[:0])) == 0


def test_an_unknown_working_point(toy: OnnxTagger, events: Any) -> None:
    with pytest.raises(InputError, match=r"no working point at rejection 0.7; it has 0.5, 0.95"):
        toy.passes(events, rejection=0.7)


def with_features(making: ModuleType, *names: str, **changed: Any) -> bytes:
    inputs = [{"features": [{"name": n} for n in names]}]
    return making.model(of=making.card(inputs=inputs, **changed), width=len(names))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Bcand.nothing", r"a.root .*tagger toy: feature 'Bcand.nothing'"),
        ("my_features.py:missing", "tagger toy: feature 'my_features.py:missing'.*nothing"),
        ("my_features.py:rhi", "tagger toy: .*my_features.py:rhi.*did you mean 'rho'"),
        (
            "my_features.py:undefined",
            r"a.root \(dataset 'bkg'\), events 0 to 800: tagger toy: .*:undefined.* 115 of 800",
        ),
    ],
)
def test_features_that_cannot_be_had(
    making: ModuleType, ntuple: Path, code: Path, name: str, message: str
) -> None:
    made = OnnxTagger(with_features(making, "Bcand.deltaE", name), base=code)
    about = {"dataset": "bkg", "filename": str(ntuple), "entrystart": 0, "entrystop": 800}
    with np.errstate(divide="ignore"), pytest.raises(InputError, match=message):
        made.inputs(read(ntuple, metadata=about))


def test_columns_computed_before(toy: OnnxTagger, events: Any, code: Path) -> None:
    columns = features.compute(["Bcand.mbc", *toy.feature_names], events, base=code)
    np.testing.assert_array_equal(toy.stack(columns), toy.inputs(events))
    del columns["Bcand.pStar"]
    with pytest.raises(InputError, match=r"needs feature 'Bcand.pStar', which is not there"):
        toy.stack(columns)


def test_events_of_another_schema(making: ModuleType, ntuple: Path, code: Path) -> None:
    class Mine(NanoAODSchema):  # type: ignore[misc]
        warn_missing_crossrefs = False

    made = OnnxTagger(making.model(of=making.card(conventions={"schema": "BsgammaSchema"})), base=code)
    assert len(made(read(ntuple))) == 800
    with pytest.raises(
        InputError, match="trained with schema 'BsgammaSchema', these events came with 'Mine'"
    ):
        made(read(ntuple, schemaclass=Mine))


# ---- models


def test_a_folder_a_file_and_its_bytes(making: ModuleType, tmp_path: Path, x: Any) -> None:
    content = making.model()
    (tmp_path / "tagger.onnx").write_bytes(content)
    made = [OnnxTagger(m) for m in (tmp_path, str(tmp_path / "tagger.onnx"), content)]
    assert len({t.sha256 for t in made}) == 1
    for other in made[1:]:
        np.testing.assert_array_equal(other.scores(x), made[0].scores(x))
    assert made[0].card == making.card()
    assert made[0].feature_names == list(making.FEATURES)
    assert "toy" in repr(made[0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"metadata": ""}, "has no card"),
        ({"metadata": "{}"}, "its card does not fit this version of hepdecorr"),
        ({"metadata": "nonsense"}, "its card does not fit this version of hepdecorr"),
        ({"width": 4}, "the graph takes shape .*4.*, its card has 3 features"),
        ({"input_name": "x"}, "the graph's inputs .*'x'.* are not those of its card"),
        ({"outputs": ("score",)}, "the graph has no output 'logit'"),
    ],
)
def test_models_that_do_not_fit_their_card(making: ModuleType, changed: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OnnxTagger(making.model(**changed))


def test_another_version_of_the_card(making: ModuleType) -> None:
    text = making.card().to_json().replace('"version":1', '"version":2')
    with pytest.raises(InputError, match=r"\(version: .*\).*export the tagger again"):
        OnnxTagger(making.model(metadata=text))


def test_files_that_are_no_models(making: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tagger.onnx: no such tagger"):
        OnnxTagger(tmp_path)
    content = making.model()
    for damaged in (b"", b"not a model", content[: len(content) // 2]):
        (tmp_path / "tagger.onnx").write_bytes(damaged)
        with pytest.raises(InputError, match=r"tagger.onnx: no model that ONNX Runtime can open"):
            OnnxTagger(tmp_path)
    with pytest.raises(InputError, match="batch_size 0"):
        OnnxTagger(content, batch_size=0)


# ---- tables


def table(folder: Path, names: list[str], units: list[str], **provenance: Any) -> Table:
    columns = [Column(n, "feature", u) for n, u in zip(names, units, strict=True)]
    arrays = {n: np.zeros(2, "f4") for n in names}
    shard = write_shard(
        folder, "a.parquet", arrays=arrays, columns=columns, dataset="a", source="a.root", start=0, stop=2
    )
    return write_manifest(folder, [shard], columns=columns, datasets={"a": {}}, provenance=provenance)


def test_tables_are_compared_with_the_card(making: ModuleType, tmp_path: Path) -> None:
    made = OnnxTagger(making.model(of=making.card(conventions={"schema": "S"})))
    names, units = list(making.FEATURES), ["", "", "GeV"]
    made.check_table(table(tmp_path, names, units))
    made.check_table(table(tmp_path, names, units, conventions={"schema": "S", "other": "x"}))
    for wrong, message in [
        ((names[:2], units[:2]), "my_features.py:rho missing in the table"),
        (([*names, "more"], [*units, ""]), "more unknown to the tagger"),
        (([names[1], names[0], names[2]], units), "their order is Bcand.pStar, Bcand.deltaE"),
        (
            (names, ["", "", "MeV"]),
            "'my_features.py:rho' has the unit 'GeV' in the tagger and 'MeV' in the table",
        ),
    ]:
        with pytest.raises(InputError, match=message):
            made.check_table(table(tmp_path, *wrong))
    with pytest.raises(InputError, match="trained with schema 'S', the table came with 'T'"):
        made.check_table(table(tmp_path, names, units, conventions={"schema": "T"}))


# ---- processes


def test_pickles_carry_small_models_and_point_at_large_ones(
    making: ModuleType, tmp_path: Path, x: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tagger.onnx"
    path.write_bytes(making.model(seed=77))
    small = OnnxTagger(path)
    carried = pickle.dumps(small)
    assert path.read_bytes() in carried
    monkeypatch.setattr(sessions, "EMBED", 10)
    pointing = pickle.dumps(OnnxTagger(path))
    assert path.read_bytes() not in pointing
    assert len(pointing) < len(carried)
    for content in (carried, pointing):
        np.testing.assert_array_equal(pickle.loads(content).scores(x), small.scores(x))


def test_a_fresh_process_scores_alike(
    making: ModuleType, tmp_path: Path, x: Any, ntuple: Path, toy: OnnxTagger
) -> None:
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(toy))
    np.save(tmp_path / "x.npy", x)
    script = (
        "import pickle, sys, numpy as np\nfrom pathlib import Path\nfolder = Path(sys.argv[1])\n"
        "t = pickle.loads((folder / 't.pkl').read_bytes())\n"
        "np.save(folder / 'y.npy', t.logits(np.load(folder / 'x.npy')))"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), toy.logits(x))


class Apply(ProcessorABC):  # type: ignore[misc]
    def __init__(self, model: OnnxTagger) -> None:
        self.tagger = model

    def process(self, events: Any) -> Any:
        return {"score": [float(s) for s in self.tagger(events)]}

    def postprocess(self, accumulator: Any) -> None:
        pass


def test_one_session_per_process(
    making: ModuleType, ntuple: Path, code: Path, monkeypatch: pytest.MonkeyPatch, events: Any
) -> None:
    opened: list[str] = []
    original = sessions._open

    def counting(content: bytes, source: str) -> Any:
        opened.append(source)
        return original(content, source)

    monkeypatch.setattr(sessions, "_open", counting)
    made = OnnxTagger(making.model(seed=101), base=code)
    found = run({"bkg": [str(ntuple)]}, Apply(made), schema=BsgammaSchema, chunksize=100)
    assert found.report.complete
    np.testing.assert_array_equal(np.float32(found.out["score"]), made(events))  # over eight chunks
    assert len(opened) == 1


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_a_model_missing_on_a_worker_is_an_error_and_not_lost_events(
    making: ModuleType, ntuple: Path, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(sessions, "EMBED", 10)
    path = tmp_path / "tagger.onnx"
    path.write_bytes(making.model(seed=102))
    made = OnnxTagger(path, base=code)
    monkeypatch.setattr(sessions, "_SESSIONS", {})  # as on a worker
    if change == "deleted":
        path.unlink()
        message = "this worker cannot read the model"
    else:
        path.write_bytes(making.model(seed=103))
        message = "is not the one that was configured"
    with pytest.raises(InputError, match=message):
        run({"bkg": [str(ntuple)]}, Apply(made), schema=BsgammaSchema, chunksize=100, skip_bad_files=True)
