"""Histograms: what is filled, and that it comes back from disk."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest

from hepdecorr.columnar import histograms
from hepdecorr.errors import InputError

SPEC = {"low": 5.2, "high": 5.29, "bins": 9, "unit": "GeV", "title": "$M_{bc}$"}


def empty(*, dataset: str, rejections: Sequence[float]) -> hist.Hist[Any]:
    return histograms.sculpting("m_bc", SPEC, datasets=[dataset], taggers=["disco"], rejections=rejections)


def filled(n: int = 500, *, dataset: str = "bkg") -> hist.Hist[Any]:
    rng = np.random.default_rng(4)
    made = empty(dataset=dataset, rejections=(0.95, 0.5))
    histograms.fill_sculpting(
        made,
        rng.uniform(5.19, 5.3, n).astype("f4"),
        dataset=dataset,
        tagger="disco",
        weight=rng.uniform(0, 2, n),
        logit=rng.normal(size=n).astype("f4"),
        thresholds={0.5: 0.0, 0.95: 1.5},
    )
    return made


def test_pass_and_fail_add_up_to_before() -> None:
    made = filled()
    assert list(made.axes["category"]) == ["before", "pass 0.5", "fail 0.5", "pass 0.95", "fail 0.95"]
    assert histograms.rejections(made) == [0.5, 0.95]
    before, *rest = (made["bkg", "nominal", "disco", c, :].view(flow=True) for c in made.axes["category"])
    for above, below in (rest[:2], rest[2:]):
        assert above["value"].sum() > 0
        np.testing.assert_allclose(above["value"] + below["value"], before["value"])
        np.testing.assert_allclose(above["variance"] + below["variance"], before["variance"])
    assert before["value"][0] > 0  # what is outside is kept in the flow bins


def test_an_event_at_the_threshold_fails() -> None:
    made = empty(dataset="a", rejections=[0.9])
    one = np.ones(1)
    histograms.fill_sculpting(
        made, one * 5.25, dataset="a", tagger="disco", weight=one, logit=one, thresholds={0.9: 1.0}
    )
    assert made["a", "nominal", "disco", "pass 0.9", sum].value == 0
    assert made["a", "nominal", "disco", "fail 0.9", sum].value == 1


def test_shifts_have_an_axis_with_the_nominal_first() -> None:
    values, weight = np.full(10, 5.25), np.ones(10)
    logit = np.arange(10.0)
    filled = [
        histograms.before_and_after(
            {"m_bc": SPEC},
            {"m_bc": values - 0.01 * i},
            dataset="a",
            weight=weight,
            logits={"disco": logit + 10 * i},
            thresholds={"disco": {0.5: 5.0}},
            shifts=["up", "down"],
            systematic=systematic,
        )["m_bc"]
        for i, systematic in enumerate(["nominal", "down"])
    ]
    made = filled[1] + filled[0]
    assert made.axes.name == ("dataset", "systematic", "tagger", "category", "m_bc")
    assert list(made.axes["systematic"]) == ["nominal", "up", "down"]
    sums = {s: made["a", s, "disco", "pass 0.5", sum].value for s in made.axes["systematic"]}
    assert sums == {"nominal": 4, "up": 0, "down": 10}
    alone = histograms.nominal(made)
    assert alone.axes.name == ("dataset", "tagger", "category", "m_bc")
    np.testing.assert_array_equal(alone.view(), made[:, "nominal", ...].view())
    assert histograms.nominal(alone) is alone


def test_chunks_add_up_even_when_empty_and_in_any_order() -> None:
    chunks = [filled(0, dataset="sig"), filled(100), filled(0), filled(70, dataset="sig")]
    one, other = sum(chunks[1:], chunks[0]), sum(reversed(chunks[:3]), chunks[3])
    assert list(one.axes["dataset"]) == ["sig", "bkg"]
    assert list(histograms.by_dataset(one).axes["dataset"]) == ["bkg", "sig"]
    assert histograms.by_dataset(one) == histograms.by_dataset(other)
    assert histograms.by_dataset(one)["bkg", ...] == filled(100)["bkg", ...]
    assert histograms.by_dataset(one)["sig", ...] == filled(70, dataset="sig")["sig", ...]


def test_axes_from_plain_specifications() -> None:
    regular = histograms.axis("m_bc", SPEC)
    assert (len(regular), regular.label) == (9, "$M_{bc}$ [GeV]")
    assert list(histograms.axis("x", {"edges": [0, 1, 10]}).edges) == [0, 1, 10]
    assert len(histograms.axis("x", {"low": 0, "high": 1})) == 50
    with pytest.raises(InputError, match="axis 'x': give 'high'"):
        histograms.axis("x", {"low": 0})
    with pytest.raises(InputError, match="axis 'x'"):
        histograms.axis("x", {"low": "zero", "high": 1})


def test_saved_histograms_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "histograms.zip"
    made = {"m_bc": filled(), "a/b": filled(0), "A/B": hist.Hist.new.Reg(3, 0, 1, name="x").Double()}
    histograms.save(made, path)
    found = histograms.load(path)
    assert list(found) == list(made)
    for name, histogram in made.items():
        assert found[name] == histogram
        assert found[name].axes.name == histogram.axes.name
        assert found[name].axes.label == histogram.axes.label
    found["m_bc"].fill(
        dataset="new", systematic="nominal", tagger="t", category="before", m_bc=[5.25]
    )  # it can still grow
    assert [p.name for p in path.parent.iterdir()] == ["histograms.zip"]


def test_the_file_holds_no_pickle(tmp_path: Path) -> None:
    histograms.save({"m_bc": filled()}, tmp_path / "h.zip")
    with zipfile.ZipFile(tmp_path / "h.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as file:
                    assert np.load(file, allow_pickle=False).dtype != object
            else:
                assert name.endswith(".json")


def test_a_file_that_is_missing_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "h.zip"
    with pytest.raises(InputError, match=r"h.zip: no such file of histograms"):
        histograms.load(path)
    histograms.save({"m_bc": filled()}, path)
    content = path.read_bytes()
    for damaged in (
        b"",
        b"not a zip",
        content[: len(content) // 2],
        content[:200] + b"\0" * 50 + content[250:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"h.zip: no readable file of histograms"):
            histograms.load(path)
