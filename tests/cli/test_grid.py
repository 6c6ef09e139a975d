"""What a scan goes over: values, ranges, combinations, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hepdecorr.cli.grid import Over, points, seeds, titles
from hepdecorr.config import load
from hepdecorr.errors import InputError

CONFIG = next((Path(__file__).parents[2] / "analysis_configs").glob("bsgamma.yaml"))


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("1,2,5", [1, 2, 5]),
        ("0.5, 1e-3,1e-7", [0.5, 0.001, 1e-7]),
        ("log:0.1:100:4", [0.1, 1.0, 10.0, 100.0]),
        ("log:1:1000:4", [1, 10, 100, 1000]),
        ("lin:2:16:8", [2, 4, 6, 8, 10, 12, 14, 16]),
        ("lin:0:1:3", [0.0, 0.5, 1.0]),
        ("lin:1.0:3.0:3", [1.0, 2.0, 3.0]),
        ("[64, 64],[128]", [[64, 64], [128]]),
        ("background,all", ["background", "all"]),
        ("{log: {r1: 1}}, {log: {r1: 2}}", [{"log": {"r1": 1}}, {"log": {"r1": 2}}]),
    ],
)
def test_values_and_ranges(given: str, values: list[object]) -> None:
    found = Over.read(f"terms.0.strength={given}", tagger="disco")
    assert list(found.values) == values
    assert [type(one) for one in found.values] == [type(one) for one in values]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("strength", "write KEY=VALUES"),
        ("strength=", "write KEY=VALUES"),
        ("a..b=1", "write KEY=VALUES"),
        ("a=1,1", "1 stands there twice"),
        ("a=lg:1:10:3", "no range 'lg'; did you mean 'log'"),
        ("a=log:0:10:3", "both ends above zero"),
        ("a=log:1:10", "write log:LOW:HIGH:COUNT"),
        ("a=lin:1:ten:3", "write lin:LOW:HIGH:COUNT"),
        ("a=lin:1:2:1", "a COUNT of at least 2"),
        ("a=[1,2", "write values with commas"),
    ],
)
def test_bad_ranges_are_named(given: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Over.read(given, tagger="disco")


def test_a_grid_holds_all_combinations_and_the_config_reads_them_back() -> None:
    overs = [
        Over.read("terms.0.strength=1e-7,20", tagger="disco"),
        # From the top of the config as well.
        Over.read("taggers.disco.training.epochs=8,16", tagger="disco"),
    ]
    found = points(overs)
    assert [dict(point.values) for point in found] == [
        {"terms.0.strength": a, "training.epochs": b} for a in (1e-7, 20) for b in (8, 16)
    ]
    assert found[0].label(titles(overs)) == "strength = 1.0e-07, epochs = 8"
    assert len({point.slug(titles(overs)) for point in found}) == 4
    for point in found:
        block = load(CONFIG, overrides=point.overrides("disco")).taggers["disco"]
        assert block["terms"][0]["strength"] == dict(point.values)["terms.0.strength"]
        assert block["training"]["epochs"] == dict(point.values)["training.epochs"]


def test_slugs_keep_apart_what_looks_alike() -> None:
    over = Over.read("hidden=[1, 2],[12],1_2", tagger="t")
    slugs = [point.slug(titles([over])) for point in points([over])]
    assert len(set(slugs)) == 3
    assert not any(set(slug) & set("/ []") for slug in slugs)


def test_two_keys_of_one_name_are_told_apart_and_one_key_stands_once() -> None:
    overs = [Over.read(f"terms.{k}.strength=1", tagger="t") for k in (0, 1)]
    assert titles(overs) == {"terms.0.strength": "terms.0.strength", "terms.1.strength": "terms.1.strength"}
    with pytest.raises(InputError, match=r"terms\.0\.strength: stands there twice"):
        points([overs[0], overs[0]])
    with pytest.raises(InputError, match="give at least one"):
        points([])
    with pytest.raises(InputError, match="more than 500"):
        points([Over.read("a=lin:1:100:100", tagger="t"), Over.read("b=lin:1:10:10", tagger="t")])


def test_seeds() -> None:
    assert seeds("1,2,7") == [1, 2, 7]
    assert seeds("2:5") == [2, 3, 4, 5]
    for bad in ("1,1", "one", "1.5", "5:2", "-1"):
        with pytest.raises(InputError, match="different whole numbers"):
            seeds(bad)
