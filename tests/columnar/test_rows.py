"""Rows: selections, weights, labels and identifiers of a chunk; and the sum of weights of a dataset."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from coffea.nanoevents import NanoEventsFactory

from hepdecorr.columnar import conventions, rows
from hepdecorr.columnar.filesets import expand
from hepdecorr.columnar.schemas import BsgammaSchema
from hepdecorr.columnar.weighting import with_sumw
from hepdecorr.errors import InputError
from hepdecorr.table import Column, Split, fold

N = 400


@pytest.fixture
def branches(making: ModuleType) -> Any:
    return making.columns(N)


@pytest.fixture
def chunk(making: ModuleType, tmp_path: Path) -> Any:
    path = making.write_ntuple(tmp_path / "a.root", N)

    def read(**about: Any) -> Any:
        metadata = {"dataset": "sig", "filename": str(path), "entrystart": 0, "entrystop": N, **about}
        source = {str(path): "Events"}
        return NanoEventsFactory.from_root(
            source, schemaclass=BsgammaSchema, mode="virtual", metadata=metadata
        ).events()

    return read


def test_cuts_and_their_flow(chunk: Any, branches: Any, code: Path) -> None:
    mass, energy = branches["Bcand_mbc"], branches["Bcand_deltaE"]
    low = float(mass[17])  # an event at the edge is in
    cuts = [
        {"feature": "Bcand.mbc", "min": low},
        "my_features.py:good",
        {"feature": "Bcand.mbc", "max": 5.28},
    ]
    keep, flow = rows.select(chunk(), cuts, base=code)
    steps = [np.ones(N, bool), mass >= np.float32(low), energy > 0, mass < np.float32(5.28)]
    left = [int(np.logical_and.reduce(steps[: i + 1]).sum()) for i in range(4)]
    np.testing.assert_array_equal(keep, np.logical_and.reduce(steps))
    assert list(flow.values()) == left
    assert next(iter(flow)) == "all"
    assert list(flow)[2:] == ["my_features.py:good", "Bcand.mbc < 5.28"]
    assert keep[17] == (energy[17] > 0)


def test_cuts_on_values_and_of_the_dataset(chunk: Any, branches: Any, code: Path) -> None:
    own = [{"feature": "label", "any_of": [1, 7]}, {"function": "my_features.py:good"}]
    cut = {"feature": "genWeight", "any_of": [0.5, 2.0], "min": None}
    keep, flow = rows.select(chunk(selection=own), [cut], base=code)
    steps = [np.isin(branches["genWeight"], (0.5, 2.0)), branches["label"] == 1, branches["Bcand_deltaE"] > 0]
    np.testing.assert_array_equal(keep, np.logical_and.reduce(steps))
    assert 0 < keep.sum() < min(step.sum() for step in steps)
    assert list(flow) == ["all", "genWeight in 0.5, 2", "label in 1, 7", "my_features.py:good"]
    np.testing.assert_array_equal(rows.select(chunk(), [cut], base=code)[0], steps[0])


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ({"feature": "Bcand.mbc"}, "give 'feature', and 'min', 'max' or both, or 'any_of'"),
        ({"feature": "Bcand.mbc", "min": 1, "any_of": [1]}, "give 'feature', and 'min', 'max' or both"),
        ({"feature": "Bcand.mbc", "function": "my_features.py:good"}, "give 'feature', and"),
        ({"feature": "label", "any_of": []}, "'any_of' is a list of numbers"),
        ({"feature": "label", "any_of": "24"}, "'any_of' is a list of numbers"),
        ({"feature": "label", "any_of": ["24"]}, "'24' is no number"),
        ({"feature": "label", "min": "24"}, "'24' is no number"),
        (3, "selection: 3 is no cut"),
        ({"feature": "Bcand.mbc", "mim": 1}, "unknown key 'mim'; did you mean 'min'"),
        ({"feature": "Bcand.nothing", "min": 1}, "feature 'Bcand.nothing'"),
        ("my_features.py:rho", "cut 'my_features.py:rho': float32 of shape .*, not a boolean for each row"),
        ("my_features.py:nice", "no 'nice'"),
    ],
)
def test_cuts_that_make_no_sense(chunk: Any, code: Path, cut: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rows.select(chunk(), [cut], base=code)


def test_weights_are_products_scaled_to_the_cross_section(chunk: Any, branches: Any, code: Path) -> None:
    plain, total = rows.weights(chunk(), [], base=code)
    np.testing.assert_array_equal(plain, np.ones(N))
    assert total == N
    product = branches["genWeight"].astype("f8") * branches["Bcand_pStar"]
    found, total = rows.weights(chunk(), ["genWeight", "Bcand.pStar"], base=code)
    np.testing.assert_allclose(found, product)
    assert total == pytest.approx(product.sum())
    scaled, raw = rows.weights(chunk(xsec=3.0, sumw=total), ["genWeight", "Bcand.pStar"], base=code)
    assert scaled.sum() == pytest.approx(3.0)
    assert raw == total
    with pytest.raises(InputError, match="dataset 'sig' has an xsec but no sumw"):
        rows.weights(chunk(xsec=3.0), [], base=code)


def test_labels_of_datasets_and_branches(chunk: Any, branches: Any) -> None:
    for label in (0, 1):
        np.testing.assert_array_equal(rows.labels(chunk(label=label)), np.full(N, label))
    np.testing.assert_array_equal(rows.labels(chunk(label=1), "label"), branches["label"])
    with pytest.raises(InputError, match="dataset 'sig' has no label"):
        rows.labels(chunk())
    with pytest.raises(InputError, match="branch 'event': labels must be 0"):
        rows.labels(chunk(), "event")


def test_identifiers_keep_every_digit(making: ModuleType, tmp_path: Path) -> None:
    large = np.array([2**63 + 1, 2**63 + 3], dtype="u8")  # float64 could not tell them apart
    path = making.write_ntuple(tmp_path / "a.root", 2, event=large)
    events = NanoEventsFactory.from_root(
        {str(path): "Events"}, schemaclass=BsgammaSchema, mode="virtual"
    ).events()
    ids = rows.identifiers(events, folds=7)
    np.testing.assert_array_equal(ids["event"], large)
    np.testing.assert_array_equal(ids["fold"], fold(ids["run"], ids["luminosityBlock"], large, folds=7))


def test_parts_follow_the_dataset_s_use(chunk: Any) -> None:
    split = Split(10, (0,), (5, 6, 7))
    folds = rows.identifiers(chunk())["fold"]
    np.testing.assert_array_equal(rows.of_part(chunk(), split=split, part="test"), np.isin(folds, (5, 6, 7)))
    assert rows.of_part(chunk(use="test"), split=split, part="test").all()
    assert not rows.of_part(chunk(use="train"), split=split, part="test").any()


def test_a_column_has_one_role() -> None:
    with pytest.raises(InputError, match="'m' is feature and nuisance at once"):
        rows.unique([Column("m", "feature"), Column("x", "feature"), Column("m", "nuisance")])


def test_sums_do_not_depend_on_order() -> None:
    values = [1e16, 1.0, -1e16, 3.0]
    records = [
        {"dataset": "a", "source": "f", "start": i, "events": 1, "rows": 1, "sumw": v, "cutflow": {"all": 1}}
        for i, v in enumerate(values)
    ]
    for order in (records, records[::-1]):
        (total,) = rows.summaries(order).values()
        assert total == {"events": 4, "rows": 4, "cutflow": {"all": 4}, "sumw": 4.0}


def test_conventions_of_all_files_must_agree() -> None:
    def chunk(source: str, **found: str) -> dict[str, Any]:
        return {"dataset": "a", "source": source, "start": 0, "conventions": found}

    raw, plain = chunk("a.root", collection="Jet", candidates="raw"), chunk("b.root", collection="Jet")
    for order in ([raw, plain], [plain, raw]):
        assert conventions.agreed(order) == {"collection": "Jet", "candidates": "raw"}
    assert conventions.agreed([chunk("c.root")]) == {}
    weighted = chunk("d.root", collection="Jet", candidates="weighted")
    with pytest.raises(
        InputError, match=r"a.root and d.root differ in their candidates: 'raw' and 'weighted'"
    ):
        conventions.agreed([weighted, plain, raw])


def test_missing_sums_of_weights_are_counted(making: ModuleType, tmp_path: Path, code: Path) -> None:
    for i, name in enumerate("abc"):
        making.write_ntuple(tmp_path / f"{name}.root", 100, seed=i)
    spec = {
        "counted": {"files": ["a.root", "b.root"], "label": "signal", "xsec": 2.0},
        "given": {"files": "c.root", "label": "background", "xsec": 2.0, "sumw": 7.0},
    }
    datasets = expand(spec, base=tmp_path)
    counted, given = with_sumw(datasets, ["genWeight"], base=code, schema=BsgammaSchema, chunksize=30)
    assert counted.sumw == sum(float(making.columns(100, seed=i)["genWeight"].sum()) for i in (0, 1))
    assert (counted.xsec, given) == (2.0, datasets[1])
    assert with_sumw([given], ["nothing"], base=code) == [given]  # nothing is read where nothing is missing
