"""Filesets: every form, and every way to get one wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hepdecorr.columnar import filesets
from hepdecorr.columnar.filesets import Dataset, expand, to_coffea
from hepdecorr.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("s1.root", "s10.root", "s2.root", "b1.root", "odd[1].root"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "m1.root").touch()
    return tmp_path


def pair(**signal: Any) -> dict[str, Any]:
    return {
        "sig": {"files": "s1.root", "label": "signal", **signal},
        "bkg": {"files": "b1.root", "label": "background"},
    }


def test_globs_lists_folders_and_urls(folder: Path) -> None:
    files = ["s*.root", "more", "root://server//store/x.root", "odd[1].root"]
    found = expand(pair(files=files), base=folder)[0].files
    names = [f if "://" in f else str(Path(f).relative_to(folder.resolve())) for f in found]
    assert names == [
        "s1.root",
        "s10.root",
        "s2.root",
        "more/m1.root",
        "root://server//store/x.root",
        "odd[1].root",
    ]


@pytest.mark.parametrize(
    ("bkg", "warned"), [({}, True), ({"selection": [{"feature": "label", "max": 1}]}, False)]
)
def test_a_file_of_two_datasets_is_told_of_unless_both_select(
    folder: Path, caplog: pytest.LogCaptureFixture, bkg: dict[str, Any], warned: bool
) -> None:
    given = pair(selection=[{"feature": "label", "min": 1}])
    given["bkg"] |= {"files": "s1.root", **bkg}
    expand(given, base=folder)
    assert ("'sig' and 'bkg': its events count twice" in caplog.text) == warned


def test_labels_uses_and_numbers(folder: Path) -> None:
    sig, bkg = expand(pair(title="B", use="test", xsec=2, sumw=10.0, metadata={"year": 2012}), base=folder)
    assert (sig.label, sig.title, sig.use, sig.xsec, sig.sumw) == (1, "B", "test", 2.0, 10.0)
    assert sig.metadata == {"year": 2012}
    assert (bkg.label, bkg.title, bkg.use, bkg.xsec) == (0, "bkg", "all", None)


@pytest.mark.parametrize("place", ["own", "metadata"])
def test_outliers_are_signal_to_train_with(folder: Path, place: str) -> None:
    """In coffea's form too, and read back from what is handed to coffea."""
    given = {"label": "outlier", "title": "W"}
    outliers = {"files": "s2.root", **(given if place == "own" else {"metadata": given})}
    found = expand(pair() | {"w": outliers}, base=folder)
    assert [(d.label, d.use, d.outlier) for d in found] == [
        (1, "all", None),
        (0, "all", None),
        (1, "train", True),
    ]
    made = to_coffea(found)
    assert made["w"]["metadata"] == {"label": 1, "outlier": True, "title": "W", "use": "train"}
    assert "outlier" not in made["sig"]["metadata"]
    assert expand(made, base=folder) == [replace(d, trees=dict.fromkeys(d.files, "Events")) for d in found]


def test_cuts_of_a_dataset_reach_its_events(folder: Path) -> None:
    cuts = [{"feature": "FatJet.genFlavour", "any_of": [24, -24]}, {"function": "my.py:good"}, "my.py:other"]
    for given in ({"selection": cuts}, {"metadata": {"selection": cuts}}):
        sig, bkg = expand(pair(**given), base=folder)
        metadata = to_coffea([sig])["sig"]["metadata"]
        assert metadata["selection"] == [cuts[0], "my.py:good", "my.py:other"]
        assert json.loads(json.dumps(metadata)) == metadata
        assert "selection" not in to_coffea([bkg])["bkg"]["metadata"]


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_fileset_files_count_from_their_own_folder(folder: Path, suffix: str) -> None:
    # JSON is YAML, so one text serves both readers
    content = {
        "sig": {"files": {"m1.root": "Tree"}, "metadata": {"label": "signal", "year": 1}},
        "bkg": {"files": {"../b1.root": {"object_path": "Other", "steps": []}}, "metadata": {"label": 0}},
    }
    (folder / "more" / f"set.{suffix}").write_text(json.dumps(content))
    sig, bkg = expand(f"more/set.{suffix}", base=folder)
    assert [Path(f).name for f in (*sig.files, *bkg.files)] == ["m1.root", "b1.root"]
    assert (sig.label, bkg.label, sig.metadata) == (1, 0, {"year": 1})
    made = to_coffea([sig, bkg])
    assert made["sig"]["files"] == {sig.files[0]: "Tree"}
    assert made["bkg"]["files"] == {bkg.files[0]: "Other"}
    assert made["sig"]["metadata"] == {"year": 1, "label": 1, "title": "sig", "use": "all"}


def test_coffea_takes_what_to_coffea_gives(folder: Path) -> None:
    from coffea.processor import Runner

    made = to_coffea(expand(pair(treename="Mine"), base=folder), treename="Events")
    metas = list(Runner._normalize_fileset(made, None))
    assert [(m.dataset, m.treename, m.metadata["label"]) for m in metas] == [
        ("sig", "Mine", 1),
        ("bkg", "Events", 0),
    ]


def test_a_list_alone_is_a_dataset_where_no_label_is_asked(folder: Path) -> None:
    (data,) = expand({"data": ["s1.root", "s2.root"]}, base=folder, labels=False)
    assert data.label is None
    assert len(data.files) == 2
    assert "label" not in to_coffea([data])["data"]["metadata"]


def test_builtin_samples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = folder / "samples" / "data"
    samples.mkdir(parents=True)
    (samples / "toy_signal.root").touch()
    monkeypatch.setattr(filesets, "resources", lambda package: folder)
    sig = expand(pair(files="builtin:toy_signal.root"), base=folder)[0]
    assert sig.files == (str(samples / "toy_signal.root"),)
    with pytest.raises(
        InputError, match=r"no built-in sample 'toy_signl.root'; did you mean 'toy_signal.root'"
    ):
        expand(pair(files="builtin:toy_signl.root"), base=folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"files": "absent.root"}, r"dataset 'sig': no file absent.root \(looked for .*absent.root"),
        ({"files": "x*.root"}, r"dataset 'sig': no file matches x\*.root"),
        ({"files": []}, "dataset 'sig': it has no files"),
        ({"files": [3]}, "dataset 'sig': 3 is no path"),
        ({"files": ["s1.root", "s*.root"]}, "dataset 'sig': .*s1.root is listed twice"),
        ({"files": {"s1.root": 7}}, "dataset 'sig': 7 is no name of a tree"),
        ({"lable": "signal"}, "dataset 'sig': unknown key 'lable'; did you mean 'label'"),
        ({"label": "sgnal"}, "dataset 'sig': label 'sgnal' is none of"),
        ({"label": True}, "dataset 'sig': label True is none of"),
        ({"label": ["signal"]}, "dataset 'sig': label .* is none of"),
        ({"label": None}, "dataset 'sig' has no label"),
        ({"label": "background"}, "no dataset of label 'signal' among 'sig', 'bkg'"),
        ({"label": "outlier"}, "no dataset of label 'signal' among 'sig', 'bkg'"),
        ({"label": "outlier", "use": "all"}, "dataset 'sig': outliers are for training alone"),
        ({"selection": [{"feature": "x"}]}, "dataset 'sig': cut .* give 'feature', and 'min', 'max' or both"),
        ({"selection": {"feature": "x", "min": 1}}, "dataset 'sig': selection: .* is no list of cuts"),
        ({"use": "never"}, "dataset 'sig': use 'never' is none of all, train, test"),
        ({"xsec": 0}, "dataset 'sig': xsec must be a number above 0"),
        ({"sumw": "many"}, "dataset 'sig': sumw must be a number above 0"),
        ({"metadata": {"filename": "x"}}, "dataset 'sig': metadata 'filename' is a word that coffea keeps"),
    ],
)
def test_mistakes_are_named(folder: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        expand(pair(**changed), base=folder)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "a fileset is a mapping"),
        (["s1.root"], "a fileset is a mapping"),
        ("absent.json", "absent.json: no such fileset file"),
        ("broken.json", "broken.json: not valid JSON"),
    ],
)
def test_what_is_no_fileset(folder: Path, spec: Any, message: str) -> None:
    (folder / "broken.json").write_text('{"sig": ')
    with pytest.raises(InputError, match=message):
        expand(spec, base=folder)


def test_a_file_in_two_datasets_is_warned_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    expand(pair(files=["s1.root", "b1.root"]), base=folder)
    assert "belongs to datasets 'sig' and 'bkg'" in caplog.text


def test_datasets_are_plain_values() -> None:
    assert Dataset("a", ("x.root",)) == Dataset("a", ("x.root",))
