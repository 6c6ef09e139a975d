"""Codes of groups: those of the whole group at once, however its events are spread over chunks and files."""

from __future__ import annotations

import pickle
import shutil
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import awkward as ak
import numpy as np
import onnxruntime
import pytest
from coffea.nanoevents import NanoEventsFactory
from coffea.processor import IterativeExecutor, ProcessorABC, Runner, accumulate

import hepdecorr.columnar
from hepdecorr.columnar.groups import GroupCodes
from hepdecorr.columnar.schemas import BsgammaSchema
from hepdecorr.columnar.scoring import table_codes, table_logits, table_outputs
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.table import Column, Selection, Split, Table, combined, fold, write_manifest, write_shard

EVENTS = 700
CUT = {"feature": "Bcand.deltaE", "max": 1.0}


def runs(n: int = EVENTS) -> np.ndarray:
    """Runs of 1 to some ten events one after another, with numbers that a float32 does not hold."""
    sizes = np.random.default_rng(9).geometric(0.06, n)
    return (np.repeat(np.arange(n), sizes)[:n] * 3 + 2**30 + 1).astype("u4")


@pytest.fixture(scope="module")
def folder(making: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return making.grouped_model(tmp_path_factory.mktemp("models") / "grouped")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def tagger(folder: Path, code: Path) -> OnnxTagger:
    return OnnxTagger(folder, base=code)


@pytest.fixture(scope="module")
def raw(making: ModuleType) -> dict[str, np.ndarray]:
    return {**making.columns(EVENTS, seed=2), "run": runs()}


@pytest.fixture(scope="module")
def x(raw: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([raw["Bcand_deltaE"], raw["Bcand_pStar"], raw["Bcand_mbc"] * raw["Bcand_pStar"]], 1)


def written(making: ModuleType, where: Path, raw: dict[str, np.ndarray], *parts: np.ndarray) -> list[str]:
    """Files that hold these parts of the events."""
    where.mkdir(parents=True, exist_ok=True)
    files = []
    for k, part in enumerate(parts):
        own = {name: values[part] for name, values in raw.items()}
        files.append(str(making.write_ntuple(where / f"{k}.root", len(part), **own)))
    return files


@pytest.fixture(scope="module")
def fileset(making: ModuleType, raw: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Two datasets, three files; runs lie in both datasets, and a file ends in the middle of one."""
    every = np.arange(EVENTS)
    first, second = every[every % 3 > 0], every[every % 3 == 0]
    cut = next(k for k in range(200, len(first)) if raw["run"][first[k - 1]] == raw["run"][first[k]])
    where = tmp_path_factory.mktemp("events")
    files = written(making, where, raw, first[:cut], first[cut:], second)
    return {"data": files[:2], "other": files[2:]}


@pytest.fixture(scope="module")
def at_once(tagger: OnnxTagger, raw: Any, x: Any) -> GroupCodes:
    return tagger.pool(tagger.summed_rows(x, raw["run"]))


def assert_same(codes: GroupCodes, known: GroupCodes) -> None:
    """To the last bit."""
    for name in ("ids", "counts", "mean", "log_var"):
        np.testing.assert_array_equal(getattr(codes, name), getattr(known, name), err_msg=name)
    assert (codes.tagger, codes.name, codes.named_by) == (known.tagger, known.name, known.named_by)


def read(file: str, mode: str = "eager", **options: Any) -> Any:
    options = {"schemaclass": BsgammaSchema, **options}
    return NanoEventsFactory.from_root({file: "Events"}, mode=mode, **options).events()


# ---- codes


def test_a_code_is_what_its_graphs_make_of_all_events(
    folder: Path, at_once: GroupCodes, raw: Any, x: Any
) -> None:
    members, group = (
        onnxruntime.InferenceSession((folder / file).read_bytes(), providers=["CPUExecutionProvider"])
        for file in ("members.onnx", "group.onnx")
    )
    for k in (0, 1, len(at_once) // 2, len(at_once) - 1):
        own = x[raw["run"] == at_once.ids[k]]
        (summands,) = members.run(["summands"], {"features": own})
        total = summands.astype("f8").sum(0)[None].astype("f4")
        given = {"sums": total, "counts": np.array([len(own)], "f4")}
        mean, log_var = group.run(["mean", "log_var"], given)
        np.testing.assert_allclose(at_once.mean[k], mean[0], atol=2e-6)
        np.testing.assert_allclose(at_once.log_var[k], log_var[0], atol=2e-6)
        assert at_once.counts[k] == len(own)
    assert at_once.ids.tolist() == sorted(set(raw["run"].tolist()))
    assert at_once.counts.min() == 1  # groups of one event among them
    assert np.ptp(at_once.mean, axis=0).min() > 0.1


@pytest.mark.parametrize("chunksize", [7, 1000, 10**6])
def test_chunks_and_files_change_no_bit(
    tagger: OnnxTagger, fileset: Any, at_once: GroupCodes, chunksize: int
) -> None:
    options = {"schema": BsgammaSchema, "chunksize": chunksize}
    assert_same(hepdecorr.columnar.group_codes(fileset, tagger, **options), at_once)
    if chunksize == 7:
        return  # chunks enough
    turned = {"other": fileset["other"], "data": fileset["data"][::-1]}
    assert_same(hepdecorr.columnar.group_codes(turned, {"one": tagger}, **options)["one"], at_once)


@pytest.mark.parametrize(("executor", "workers"), [("futures", 2), ("dask", 1)])
def test_executors_change_no_bit(
    tagger: OnnxTagger, fileset: Any, at_once: GroupCodes, executor: str, workers: int
) -> None:
    options = {"schema": BsgammaSchema, "chunksize": 150, "executor": executor, "workers": workers}
    assert_same(hepdecorr.columnar.group_codes(fileset, tagger, **options), at_once)


def test_events_in_memory(
    making: ModuleType, tagger: OnnxTagger, raw: Any, at_once: GroupCodes, tmp_path: Path
) -> None:
    mixed = np.random.default_rng(1).permutation(EVENTS)
    (file,) = written(making, tmp_path, raw, mixed)
    for mode in ("eager", "virtual"):
        assert_same(tagger.codes(read(file, mode)), at_once)
    events = read(file)
    parts = [tagger.summed(events[k : k + 100]) for k in range(0, EVENTS, 100)]
    assert_same(tagger.pool(accumulate(parts)), at_once)
    assert len(tagger.codes(events[:0])) == 0


def test_a_cut_changes_what_a_code_is_made_of(
    tagger: OnnxTagger, fileset: Any, raw: Any, x: Any, at_once: GroupCodes
) -> None:
    keep = x[:, 0] < 1.0
    codes = hepdecorr.columnar.group_codes(
        fileset, tagger, selection=[CUT], schema=BsgammaSchema, chunksize=200
    )
    assert_same(codes, tagger.pool(tagger.summed_rows(x[keep], raw["run"][keep])))
    # Runs of which nothing is left have no code, and nobody asks for one.
    gone = set(at_once.ids.tolist()) - set(codes.ids.tolist())
    assert gone == set(raw["run"].tolist()) - set(raw["run"][keep].tolist())
    assert gone


def test_several_names_are_a_group(making: ModuleType, raw: Any, x: Any, code: Path, tmp_path: Path) -> None:
    made = making.grouped_model(tmp_path / "model", of=("run", "luminosityBlock"))
    (file,) = written(making, tmp_path, raw, np.arange(EVENTS))
    pairs = OnnxTagger(made, base=code)
    codes = pairs.codes(read(file))
    assert_same(codes, pairs.pool(pairs.summed_rows(x, combined([raw["run"], raw["luminosityBlock"]]))))
    assert len(codes) == len(set(zip(raw["run"].tolist(), raw["luminosityBlock"].tolist(), strict=True)))


# ---- the second pass


class Apply(ProcessorABC):  # type: ignore[misc]
    """A user's own."""

    def __init__(self, tagger: OnnxTagger, codes: GroupCodes) -> None:
        self.tagger, self.codes = tagger, codes

    def process(self, events: Any) -> Any:
        scores = self.tagger(events, groups=self.codes)
        return {int(event): float(score) for event, score in zip(events.event, scores, strict=True)}

    def postprocess(self, accumulator: Any) -> None:
        pass


def test_two_passes_in_a_processor_of_ones_own(
    tagger: OnnxTagger, fileset: Any, raw: Any, x: Any, at_once: GroupCodes
) -> None:
    known = tagger.scores({"features": x, "context": at_once.of(raw["run"])})
    assert len(np.unique(known)) > 500
    codes = hepdecorr.columnar.group_codes(fileset, tagger, schema=BsgammaSchema)
    run = Runner(IterativeExecutor(status=False), chunksize=41, schema=BsgammaSchema)
    found = run(fileset, Apply(tagger, codes), treename="Events")
    np.testing.assert_array_equal([found[event] for event in raw["event"].tolist()], known)


def test_codes_move_the_score(tagger: OnnxTagger, fileset: Any, at_once: GroupCodes) -> None:
    events = read(fileset["data"][0])
    known = tagger.logit(events, groups=at_once)
    ids = tagger.group_ids(events)
    rows = tagger.inputs(events, groups=at_once)
    np.testing.assert_array_equal(rows["context"], at_once.of(ids))
    np.testing.assert_array_equal(tagger.logits(rows), known)
    np.testing.assert_array_equal(tagger.further(events, "kl", groups=at_once), np.abs(known))
    np.testing.assert_array_equal(tagger.outputs(events, ["logit"], groups=at_once)["logit"], known)
    passes = tagger.passes(events, rejection=0.95, groups=at_once)
    np.testing.assert_array_equal(passes, known > 1.0)
    other = tagger.logits({**rows, "context": rows["context"][::-1]})
    assert np.abs(other - np.asarray(known)).max() > 0.1


def test_a_code_has_an_uncertainty(at_once: GroupCodes) -> None:
    ids = at_once.ids[[3, 3, 0]]
    expected = -np.log(at_once.counts[[3, 3, 0]].astype("f4"))
    np.testing.assert_allclose(at_once.log_var_of(ids), np.stack([expected] * 2, 1), rtol=1e-6)


def test_before_any_event_a_code_is_the_prior(at_once: GroupCodes) -> None:
    ids = np.array([at_once.ids[1], 5, -7])
    assert at_once.known(ids).tolist() == [True, False, False]
    open_ones = at_once.with_prior()
    np.testing.assert_array_equal(open_ones.of(ids), [at_once.mean[1], [0, 0], [0, 0]])
    np.testing.assert_array_equal(open_ones.log_var_of(ids), [at_once.log_var[1], [0, 0], [0, 0]])
    with pytest.raises(InputError, match="no code of run 5"):
        at_once.of(ids[1:2])


# ---- what is refused


def test_what_is_unknown_is_named(tagger: OnnxTagger, fileset: Any, at_once: GroupCodes) -> None:
    events = read(fileset["data"][0])
    first = int(at_once.ids[0])
    own = int((np.asarray(events.run) == first).sum())
    few = GroupCodes(at_once.ids[1:], at_once.counts[1:], at_once.mean[1:], at_once.log_var[1:],
                     at_once.tagger, "grouped", ("run",))  # fmt: skip
    with pytest.raises(
        InputError, match=rf"tagger toy: no code of run {first} \({own} of {len(events)} rows"
    ):
        tagger(events, groups=few)
    none = tagger.codes(events[:0])
    with pytest.raises(
        InputError, match=r"and \d+ groups more .*but of no groups of run; codes come from all"
    ):
        tagger(events, groups=none)
    with pytest.raises(InputError, match=r"ids of groups are integers .*, not float32"):
        at_once.of(np.ones(2, "f4"))


def test_a_tagger_takes_its_own_codes_only(
    making: ModuleType, tagger: OnnxTagger, fileset: Any, at_once: GroupCodes, code: Path, tmp_path: Path
) -> None:
    events = read(fileset["other"][0])
    other = OnnxTagger(making.grouped_model(tmp_path / "other", seed=4), base=code)
    with pytest.raises(InputError, match="these are codes of another tagger"):
        other(events, groups=at_once)
    with pytest.raises(InputError, match=r"groups are the codes that .*, not ndarray"):
        tagger(events, groups=at_once.mean)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="these are sums of another tagger"):
        other.pool(tagger.summed(events))
    with pytest.raises(
        InputError, match=r"group \(run\): compute the codes of all groups, .*group_codes\(file"
    ):
        tagger(events)
    plain = OnnxTagger(making.model(), base=code)
    with pytest.raises(InputError, match="toy is told of no groups"):
        plain(events, groups=at_once)
    with pytest.raises(InputError, match="toy is told of no groups"):
        plain.codes(events)
    with pytest.raises(InputError, match="the tagger takes arrays by name: features, context"):
        tagger.scores(np.zeros((2, 3), "f4"))
    with pytest.raises(InputError, match=r"context of shape \(2, 3\)"):
        tagger.scores({"features": np.zeros((2, 3)), "context": np.zeros((2, 3))})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"run": np.where(np.arange(50) == 7, np.nan, 3.0)},
            r"b\.root \(dataset 'b'\), events 0 to 50: tagger toy: groups: 'run': missing or NaN in 1 of 50",
        ),
        ({"run": np.full(50, 1.5)}, "groups: 'run'"),
        ({"Bcand_deltaE": np.full(50, np.nan, "f4")}, "'Bcand.deltaE'"),
        ({"Bcand_deltaE": np.full(50, 1e30, "f4")}, r"tagger toy: summand \d is .* in row 0"),
    ],
)
def test_events_without_a_group(
    making: ModuleType, tagger: OnnxTagger, tmp_path: Path, change: Any, message: str
) -> None:
    file = making.write_ntuple(tmp_path / "b.root", 50, **change)
    with pytest.raises(InputError, match=message):
        hepdecorr.columnar.group_codes({"b": [str(file)]}, tagger, schema=BsgammaSchema)


def test_a_branch_that_names_groups_is_missing(making: ModuleType, code: Path, tmp_path: Path) -> None:
    file = making.write_ntuple(tmp_path / "b.root", 50)
    made = OnnxTagger(making.grouped_model(tmp_path / "model", of=("era",)), base=code)
    with pytest.raises(
        InputError, match=r"b\.root \(dataset 'b'\), .*: groups: 'era': neither a feature nor"
    ):
        hepdecorr.columnar.group_codes({"b": [str(file)]}, made, schema=BsgammaSchema)


def test_a_tagger_that_was_copied_in_part(
    folder: Path, tagger: OnnxTagger, fileset: Any, at_once: GroupCodes, code: Path, tmp_path: Path
) -> None:
    events = read(fileset["other"][0])
    known = tagger(events, groups=at_once)
    alone = Path(shutil.copy(folder / "tagger.onnx", tmp_path))
    for model, message in [
        (alone, r"members.onnx: cannot be read .*copy the whole folder of tagger toy"),
        (alone.parent, r"members.onnx: cannot be read"),
        (alone.read_bytes(), r"members.onnx, which lies beside the graph; give the tagger's folder"),
    ]:
        copied = OnnxTagger(model, base=code)
        np.testing.assert_array_equal(copied(events, groups=at_once), known)  # codes are all that it takes
        with pytest.raises(InputError, match=message):
            copied.codes(events)
    assert_same(
        OnnxTagger(folder / "tagger.onnx", base=code).pool(tagger.summed(events)), tagger.codes(events)
    )
    shutil.copy(folder / "members.onnx", tmp_path)
    (tmp_path / "group.onnx").write_bytes((folder / "members.onnx").read_bytes())
    with pytest.raises(InputError, match=r"group.onnx: not of the tagger.onnx beside it; copy the whole"):
        OnnxTagger(tmp_path, base=code).codes(events)


# ---- on disk


def test_codes_survive_the_disk(at_once: GroupCodes, tagger: OnnxTagger, tmp_path: Path) -> None:
    file = at_once.save(tmp_path / "deep" / "codes.parquet")
    assert_same(GroupCodes.open(file), at_once)
    assert [p.name for p in file.parent.iterdir()] == ["codes.parquet"]
    empty = GroupCodes(*(a[:0] for a in (at_once.ids, at_once.counts, at_once.mean, at_once.log_var)), "x")
    assert_same(GroupCodes.open(empty.save(tmp_path / "none.parquet")), empty)
    assert at_once.summary().startswith(f"{len(at_once)} groups of run, of 1 to ")
    with pytest.raises(InputError, match="no such file of codes"):
        GroupCodes.open(tmp_path / "other.parquet")
    (tmp_path / "bad.parquet").write_bytes(file.read_bytes()[:-50])
    write_shard(
        tmp_path, "table.parquet", arrays={"a": np.ones(2)}, columns=[Column("a", "id")], dataset="a",
        source="a", start=0, stop=2,
    )  # fmt: skip
    for name in ("bad", "table"):
        with pytest.raises(InputError, match=f"{name}.parquet: no file of codes of this version"):
            GroupCodes.open(tmp_path / f"{name}.parquet")
    again = pickle.loads(pickle.dumps(tagger))
    assert_same(again.pool(again.summed_rows(np.zeros((3, 3)), np.arange(3))),
                tagger.pool(tagger.summed_rows(np.zeros((3, 3)), np.arange(3))))  # fmt: skip


def test_a_run_that_was_stopped_goes_on(
    tagger: OnnxTagger, fileset: Any, at_once: GroupCodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"schema": BsgammaSchema, "chunksize": 120, "checkpoints": tmp_path, "fingerprint": "a"}
    assert_same(hepdecorr.columnar.group_codes(fileset, tagger, **options), at_once)
    assert len(list(tmp_path.rglob("*.zip"))) > 4
    monkeypatch.setattr(OnnxTagger, "summed", None)  # nothing is computed again
    assert_same(hepdecorr.columnar.group_codes(fileset, tagger, **options), at_once)


# ---- tables


SPLIT = Split(4, (0,), (1,))


def grouped_table(making: ModuleType, where: Path, raw: Any, x: Any, *, title: str = "run") -> Table:
    """The events in shards that groups are spread over, both labels in each group."""
    units = ("", "", "GeV")
    columns = [Column(n, "feature", u) for n, u in zip(making.FEATURES, units, strict=True)]
    columns += [Column("label", "label"), Column("group", "group", title=title)]
    columns += [Column("event", "id"), Column("fold", "id")]
    ids = raw["run"].astype("i8")
    arrays = {n: x[:, k] for k, n in enumerate(making.FEATURES)} | {"group": ids, "event": raw["event"]}
    arrays |= {"label": raw["label"].astype("i1"), "fold": fold(ids, folds=4)}
    shards = []
    for label, name in enumerate(("background", "signal")):
        for k, part in enumerate(np.array_split(np.flatnonzero(arrays["label"] == label), 3)):
            own = {key: values[part] for key, values in arrays.items()}
            about = {"columns": columns, "dataset": name, "source": "a", "start": k, "stop": k + 1}
            shards.append(write_shard(where, f"{name}{k}.parquet", arrays=own, **about))
    datasets = {name: {"label": k, "use": "all"} for k, name in enumerate(("background", "signal"))}
    return write_manifest(where, shards, columns=columns, datasets=datasets, provenance={})


def test_events_of_a_table(making: ModuleType, tagger: OnnxTagger, raw: Any, x: Any, tmp_path: Path) -> None:
    table = grouped_table(making, tmp_path, raw, x)
    test = fold(raw["run"].astype("i8"), folds=4) == 1
    known = tagger.pool(tagger.summed_rows(x[test], raw["run"][test]))
    for select in (Selection("test", SPLIT), Selection("test", SPLIT, label=0)):
        # Of all labels, though those of one are scored.
        assert_same(table_codes(tagger, table, select=select), known)
        logits = table_logits(tagger, table, select=select)
        events = table.read(["event"], select=select)["event"].astype(int)
        expected = tagger.logits({"features": x[events], "context": known.of(raw["run"][events])})
        np.testing.assert_array_equal(logits, expected)
        found = table_outputs(tagger, table, ["kl", "logit"], select=select)
        np.testing.assert_array_equal(found["kl"], np.abs(expected))
    none = Selection("test", Split(4, (0,), ()))
    assert len(table_logits(tagger, table, select=none)) == len(table_codes(tagger, table, select=none)) == 0
    other = grouped_table(making, tmp_path / "other", raw, x, title="era")
    with pytest.raises(InputError, match="its groups are of era, those of tagger toy of run"):
        table_logits(tagger, other, select=none)


# ---- odd and many groups


def test_groups_of_a_size_that_the_training_had_not_are_told(
    making: ModuleType, code: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = OnnxTagger(making.grouped_model(tmp_path), base=code)  # of 1 to 100 events
    for size, told in ((100, False), (101, True)):
        made.pool(made.summed_rows(np.zeros((3 * size, 3)), np.repeat(np.arange(3), size)))
        assert ("of 1 to 100 events, and these groups have 101 at the median" in caplog.text) == told


def test_a_hundred_thousand_groups(tagger: OnnxTagger) -> None:
    draw = np.random.default_rng(1)
    x = draw.normal(size=(300_000, 3)).astype("f4")
    ids = draw.integers(0, 100_000, len(x)) * 7919
    start = time.process_time()
    parts = (tagger.summed_rows(x[k : k + 50_000], ids[k : k + 50_000]) for k in range(0, len(x), 50_000))
    codes = tagger.pool(accumulate(parts))
    context = codes.of(ids)
    assert time.process_time() - start < 8
    assert len(codes) == len(np.unique(ids)) > 90_000
    assert context.shape == (300_000, 2)
    some = ids == ids[5]
    alone = tagger.pool(tagger.summed_rows(x[some], ids[some]))
    np.testing.assert_array_equal(alone.mean[0], context[5])
    assert ak.all(codes.counts >= 1)
