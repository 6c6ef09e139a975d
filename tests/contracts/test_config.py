"""The analysis YAML: strict, with the line of every fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from hepdecorr.config import load
from hepdecorr.document import read_yaml
from hepdecorr.errors import InputError

GOOD = """\
name: toy
output: out
samples:
  datasets:
    sig:
      files: sig.root
      label: signal
    bkg:
      files: [a.root, b.root]
      label: background
features: [r2]
nuisances:
  mbc: {low: 5.2, high: 5.29}
taggers:
  plain: {type: Tagger}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    return path


def test_a_good_one_has_defaults_and_paths_from_its_folder(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD))
    assert config.output_folder == tmp_path / "out"
    assert config.models_folder == tmp_path / "out" / "models"
    assert config.table_split.validation == (0,)
    assert config.nuisances["mbc"].bins == 50
    assert config.text == GOOD


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("features: [r2]", "feature: [r2]", 11, "unknown key; did you mean 'features'"),
        ("features: [r2]", "features: [3]", 11, "features.0: Input should be a valid string"),
        ("features: [r2]", "features: []", 1, "give features, constituents or both"),
        (
            "features: [r2]",
            "features: [r2]\nconstituents: {features: [pt]}",
            12,
            "constituents need 'objects'",
        ),
        (
            "features: [r2]",
            "features: [r2]\nobjects: {collection: FatJet, puppi: maybe}",
            12,
            "'auto', 'raw' or 'weighted'",
        ),
        ("features: [r2]", "features: [r2]\nshifts: {nominal: my.py:f}", 12, "'nominal': the name stands"),
        (
            "features: [r2]",
            "features: [r2]\nreport: {mapped: [plan]}",
            12,
            "no tagger 'plan'; did you mean 'plain'",
        ),
        ("features: [r2]", "features: [r2]\nshifts: {up: 5}", 12, r"shifts\.up: Input should be a valid"),
        (
            "features: [r2]",
            "features: [r2]\nobjects: {collection: Jet, pupi: raw}",
            12,
            "unknown key; did you mean 'puppi'",
        ),
        ("high: 5.29}", "high: 5.29, protected: false}", 12, "must be protected"),
        ("high: 5.29}", "high: 5.29, slices: [2, 1]}", 13, "must grow"),
        (
            "name: toy",
            "name: toy\nselection: [{feature: r2, min: 1, any_of: [2]}]",
            2,
            "needs min, max or both, or any_of",
        ),
        ("label: background", "label: backgroud", 10, "'signal', 'background' or 'outlier'"),
        ("label: background", "label: signal", 3, "no dataset of label 'background' to train with"),
        ("label: background", "label: background\n      use: test", 3, "to train with"),
        ("label: signal", "label: outlier", 3, "no dataset of label 'signal' to test with; both classes"),
        ("label: signal", "label: outlier\n      use: test", 8, r"sig\.use: outliers are for training alone"),
        ("label: signal", "use: all\n      label: outlier", 7, r"sig\.use: outliers are for training alone"),
        ("label: background", "label: background\n      xec: 3.0", 11, "unknown key; did you mean 'xsec'"),
        ("high: 5.29", "high: 5.1", 13, "not below high"),
        ("high: 5.29", "high: wide", 13, "valid number"),
        ("high: 5.29", "high: .nan", 13, "finite"),
        ("low: 5.2, ", "", 13, "mbc.low: missing; add it"),
        ("name: toy", "name: toy\nname: two", 2, "'name' stands here twice"),
        ("name: toy", "name: a/b", 1, "pattern"),
        ("name: toy", "name: toy\nseeds: [1, 1]", 2, "each seed once"),
        ("name: toy", "name: toy\nsplit: {folds: 4, test: [4]}", 2, r"folds \[4\] do not exist"),
        ("name: toy", "name: toy\nsplit: {validation: [5]}", 2, "stand in validation and in test"),
        ("name: toy", "name: toy\nworking_points: [95]", 2, "between 0 and 1"),
        ("name: toy", "name: toy\nrunning: {executor: spark}", 2, "'iterative', 'futures' or 'dask'"),
        ("name: toy", "name: toy\nrunning: {workers: 0}", 2, "greater than or equal to 1"),
        ("name: toy", "name: toy\nselection: [{feature: r2}]", 2, "needs min, max or both"),
        (
            "name: toy",
            "name: toy\nselection: [{function: c.py:f, feature: r2, min: 1}]",
            2,
            "either a feature or",
        ),
        ("name: toy", "name: [toy", 2, "not valid YAML"),
    ],
)
def test_faults_name_their_line(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert old in GOOD
    with pytest.raises(InputError, match=message) as caught:
        load(write(tmp_path, GOOD.replace(old, new)))
    assert f"toy.yaml:{line}:" in str(caught.value)
    assert "dict[" not in str(caught.value)


OUTLIERS = """\
    w: {files: w.root, label: outlier}
    bkg:"""


def test_outliers_train_and_nothing_else(tmp_path: Path) -> None:
    """The tested signal may then be for tests alone; without outliers too, where a tagger asks for none."""
    tested = GOOD.replace("label: signal", "label: signal\n      use: test")
    config = load(write(tmp_path, tested.replace("    bkg:", OUTLIERS)))
    outliers = config.samples.datasets["w"]
    assert (outliers.use, outliers.spec["label"], outliers.spec["use"]) == ("train", "outlier", "train")
    assert config.samples.trains_on_signal
    assert load(write(tmp_path, tested)).samples.trains_on_signal is False
    assert load(write(tmp_path, GOOD)).samples.trains_on_signal


def test_groups_are_named_by_one_or_several(tmp_path: Path) -> None:
    assert load(write(tmp_path, GOOD)).grouped_by == []
    for given, names in (
        ("run", ["run"]),
        ("[era, region]", ["era", "region"]),
        ("event", ["run", "luminosityBlock", "event"]),
        ("[event]", ["run", "luminosityBlock", "event"]),
    ):
        assert load(write(tmp_path, GOOD + f"groups: {{of: {given}}}\n")).grouped_by == names


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("{oft: run}", r"groups\.oft: unknown key; did you mean 'of'"),
        ("{of: []}", r"groups\.of: name the branch or feature"),
        ("{of: ''}", r"groups\.of: name the branch or feature"),
        ("{of: run, truth: {group: [mbc], instance: [mbc]}}", r"groups\.truth: 'mbc' stands in group and in"),
        ("{of: run, truth: {group: [mbc], process: made}}", r"groups\.truth: 'process' .* name variables"),
        ("{of: 3}", r"groups\.of"),
        ("{of: run, truth: {grup: [mbc]}}", r"groups\.truth\.grup: unknown key; did you mean 'group'"),
    ],
)
def test_faults_of_groups_name_their_line(tmp_path: Path, groups: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"(?s)toy\.yaml:16: .*{message}") as caught:
        load(write(tmp_path, GOOD + f"groups: {groups}\n"))
    assert "constrained" not in str(caught.value)


def test_with_groups_there_may_be_no_signal(tmp_path: Path) -> None:
    start, end = GOOD.index("    sig:"), GOOD.index("    bkg:")
    alone = GOOD[:start] + GOOD[end:]
    with pytest.raises(InputError, match=r"toy\.yaml:3: samples: no dataset of label 'signal' to test with"):
        load(write(tmp_path, alone))
    config = load(write(tmp_path, alone + "groups: {of: run}\n"))
    assert not config.samples.has_signal
    assert not config.samples.tests_on_signal
    assert config.samples.trains_on_signal is False
    # Signal to train with and none to test with is a mistake all the same.
    tested = GOOD.replace("label: signal", "label: signal\n      use: train")
    with pytest.raises(InputError, match="no dataset of label 'signal' to test with; both classes"):
        load(write(tmp_path, tested + "groups: {of: run}\n"))


def test_powers_of_ten_are_numbers(tmp_path: Path) -> None:
    """Without a point, too, of which YAML 1.1 makes a word; a name and what is quoted stay words."""
    path = write(tmp_path, 'a: [1e-3, -2E4, 3e+2, 1.5e-3, 7]\nb: [1e-3x, e5, "1e-3"]\n')
    found = read_yaml(path)
    assert found == {"a": [0.001, -2e4, 300.0, 0.0015, 7], "b": ["1e-3x", "e5", "1e-3"]}
    text = GOOD.replace("{type: Tagger}", "{type: Tagger, terms: [{type: DisCo, nuisance: mbc, tail: 1e-3}]}")
    config = load(write(tmp_path, text), overrides=["taggers.plain.terms.0.strength=2e1"])
    assert config.taggers["plain"]["terms"][0] == {
        "type": "DisCo",
        "nuisance": "mbc",
        "tail": 1e-3,
        "strength": 20.0,
    }


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    config = load(
        path, overrides=["samples.datasets.bkg.files.1=c.root", "seeds=[2, 3]", "running.workers=4"]
    )
    assert config.samples.datasets["bkg"].files == ["a.root", "c.root"]
    assert config.seeds == [2, 3]
    assert config.running.workers == 4


@pytest.mark.parametrize(
    "override", ["seeds", "=3", "name.x=3", "samples.datasets.bkg.files.7=c", "seeds=[1", "running.worker=3"]
)
def test_bad_overrides_are_named(tmp_path: Path, override: str) -> None:
    with pytest.raises(InputError, match=r"--set|unknown key"):
        load(write(tmp_path, GOOD), overrides=[override])


def test_digest_changes_with_its_sections_only(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    one, two = load(path), load(path, overrides=["seeds=[5]"])
    assert one.digest() != two.digest()
    assert one.digest("samples", "features") == two.digest("samples", "features")


def test_files_that_are_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.yaml: cannot be read"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81root")
    with pytest.raises(InputError, match="not a text file"):
        load(tmp_path / "binary.yaml")
    with pytest.raises(InputError, match="mapping of keys"):
        load(write(tmp_path, "- a\n- b\n"))
    assert read_yaml(write(tmp_path, "a: [1, 2]\n")) == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("? [1, 2]\n: 3\n", "mine.yaml:1: a key must be a single word"),
        ("name: x\nfeatures: &f\n  - *f\n", "contains itself"),
        ("\x00", "not valid YAML"),
    ],
)
def test_odd_yaml_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load(path)
