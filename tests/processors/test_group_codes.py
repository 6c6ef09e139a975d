"""Two passes with the shipped processors: codes of the test events, and the taggers told of them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hepdecorr.catalogue import load_file
from hepdecorr.columnar import rows
from hepdecorr.columnar.filesets import Dataset, expand
from hepdecorr.columnar.groups import GroupCodes
from hepdecorr.columnar.running import run
from hepdecorr.columnar.schemas import BsgammaSchema
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.table import Split, fold

NUISANCES = {"mass": {"feature": "Bcand.mbc", "low": 5.2, "high": 5.29, "bins": 6, "unit": "GeV"}}
SPLIT = Split(10, (0,), (5, 6, 7, 8, 9))
CUT = {"feature": "Bcand.deltaE", "max": 0.0}
MY_SHIFTS = """
import awkward as ak

def up(events):
    moved = ak.with_field(events["Bcand"], events["Bcand"]["deltaE"] - 1, "deltaE")
    return ak.with_field(events, moved, "Bcand")
"""


@pytest.fixture(scope="module")
def processors() -> tuple[Any, Any]:
    folder = Path(__file__).parents[2] / "processors"
    return (
        load_file(folder / "group_codes.py").FirstPass,
        load_file(folder / "sculpting.py").Sculpting,
    )


@pytest.fixture(scope="module")
def raw(making: ModuleType) -> dict[str, dict[str, np.ndarray]]:
    """Signal and background share most runs; some have one class only."""
    draw = np.random.default_rng(3)
    found = {}
    for name, count, low in (("s", 300, 0), ("b", 500, 5)):
        own = making.columns(count, seed=low + 1, start=1000 * low)
        found[name] = {**own, "run": draw.integers(low, 80, count).astype("u4")}
    return found


@pytest.fixture(scope="module")
def datasets(making: ModuleType, raw: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    folder = tmp_path_factory.mktemp("events")
    for name, arrays in raw.items():
        making.write_ntuple(folder / f"{name}.root", len(arrays["run"]), **arrays)
    spec = {"sig": {"files": "s.root", "label": "signal"}, "bkg": {"files": "b.root", "label": "background"}}
    return expand(spec, base=folder)


@pytest.fixture(scope="module")
def model(making: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return making.grouped_model(tmp_path_factory.mktemp("models") / "told")  # type: ignore[no-any-return]


def apply(processor: Any, datasets: list[Dataset], *, chunksize: int = 200) -> dict[str, Any]:
    return run(datasets, processor, schema=BsgammaSchema, chunksize=chunksize).out  # type: ignore[no-any-return]


def chosen(raw: Any, *, least: float = -np.inf) -> dict[str, np.ndarray]:
    """Selected test events of both classes: inputs, runs and numbers of events."""
    every = {name: np.concatenate([raw[k][name] for k in ("s", "b")]) for name in raw["s"]}
    keep = np.isin(fold(every["run"].astype("i8")), SPLIT.test) & (every["Bcand_deltaE"] < 0)
    rho = every["Bcand_mbc"] * every["Bcand_pStar"]
    x = np.stack([every["Bcand_deltaE"], every["Bcand_pStar"], rho], 1)
    return {"x": x[keep], "run": every["run"][keep], "event": every["event"][keep]}


def test_two_passes_over_the_test_events(
    processors: Any, datasets: Any, raw: Any, model: Path, code: Path, making: ModuleType, tmp_path: Path
) -> None:
    first, second = processors
    common = {"selection": [CUT], "split": SPLIT, "grouped_by": ["run"], "base": code}
    tagger = OnnxTagger(model, base=code)
    out = apply(first(taggers={"told": model}, **common), datasets)
    own = chosen(raw)
    codes = tagger.pool(out["groups"]["told"])
    known = tagger.pool(tagger.summed_rows(own["x"], own["run"]))
    np.testing.assert_array_equal(codes.ids, known.ids)
    np.testing.assert_array_equal(codes.mean, known.mean)
    assert sum(c["rows"] for c in out["chunks"]) == codes.counts.sum() == len(own["x"])
    signal = set(raw["s"]["run"].tolist()) - set(raw["b"]["run"].tolist())
    assert signal & set(codes.ids.tolist())  # groups present in one class alone have codes like others

    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "tagger.onnx").write_bytes(making.model())
    taggers = {"told": model, "plain": tmp_path / "plain"}
    groups = {"told": codes.save(tmp_path / "codes.parquet")}
    scores = tmp_path / "scores"
    made = second(
        taggers=taggers,
        scores={"told": ["kl"]},
        nuisances=NUISANCES,
        folder=scores,
        groups=groups,
        **common,
    )
    out = apply(made, datasets, chunksize=90)
    table = rows.finish_table(
        out["chunks"], folder=scores, columns=made.columns, datasets=datasets, provenance={}
    )
    found = table.read(["told", "told.kl", "event", "group"])
    order, wanted = np.argsort(found["event"]), np.argsort(own["event"])
    logit = tagger.logits({"features": own["x"], "context": codes.of(own["run"])})[wanted]
    np.testing.assert_array_equal(found["told"][order], logit)
    np.testing.assert_array_equal(found["told.kl"][order], np.abs(logit))
    np.testing.assert_array_equal(found["group"][order], own["run"][wanted])
    passed = out["histograms"]["mass"][{"tagger": "told", "category": "pass 0.95"}].sum(flow=True).value
    assert passed == np.count_nonzero(logit > 1.0) > 0
    assert len(out["histograms"]["mass"].axes["tagger"]) == 3


def test_a_shift_keeps_the_codes(
    processors: Any, datasets: Any, raw: Any, model: Path, code: Path, tmp_path: Path
) -> None:
    (code / "my_shifts.py").write_text(MY_SHIFTS)
    first, second = processors
    common = {"selection": [CUT], "split": SPLIT, "grouped_by": ["run"], "base": code}
    tagger = OnnxTagger(model, base=code)
    codes = tagger.pool(apply(first(taggers={"told": model}, **common), datasets)["groups"]["told"])
    made = second(
        taggers={"told": model},
        nuisances=NUISANCES,
        groups={"told": codes},
        shifts={"up": "my_shifts.py:up"},
        **common,
    )
    out = apply(made, datasets)
    moved = {k: {**v, "Bcand_deltaE": v["Bcand_deltaE"] - np.float32(1)} for k, v in raw.items()}
    own = chosen(moved)
    known = codes.known(own["run"])
    assert 0 < (~known).sum() < len(known)
    context = np.where(known[:, None], codes.with_prior().of(own["run"]), 0)
    logit = tagger.logits({"features": own["x"], "context": context})
    histogram = out["histograms"]["mass"]
    up = histogram[{"systematic": "up", "tagger": "told", "category": "pass 0.95"}].sum(flow=True).value
    assert up == np.count_nonzero(logit > 1.0)
    flows = rows.summaries(out["chunks"])
    told = [flow["cutflow"].get("up: without a code of their group", 0) for flow in flows.values()]
    assert sum(told) == (~known).sum()


def test_codes_that_do_not_belong_are_refused(
    processors: Any, making: ModuleType, model: Path, code: Path, tmp_path: Path
) -> None:
    _, second = processors
    with pytest.raises(
        InputError, match=r"tagger told is told .* run processors/group_codes.py over the same"
    ):
        second(taggers={"told": model}, nuisances=NUISANCES, base=code)
    other = OnnxTagger(making.grouped_model(tmp_path / "other", seed=9), base=code)
    codes = other.pool(other.summed_rows(np.ones((4, 3)), np.arange(4)))
    assert isinstance(codes, GroupCodes)
    for given in (codes, codes.save(tmp_path / "codes.parquet")):
        with pytest.raises(InputError, match="codes of another tagger"):
            second(taggers={"told": model}, nuisances=NUISANCES, groups={"told": given}, base=code)
