"""The toys against closed forms, and their files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from scipy import integrate, stats

from hepdecorr.cli.main import main
from hepdecorr.errors import InputError
from hepdecorr.samples import read_provenance
from hepdecorr.samples.toys import PROCESSES, TOYS, generate, luminosity_block, regenerate

EVENTS = 60_000
BRANCHES = {"run": "uint32_t", "luminosityBlock": "uint32_t", "event": "uint64_t"}
BRANCHES |= {**dict.fromkeys(("x1", "x2", "z"), "float"), "label": "int32_t"}

Load = Callable[[Path], ak.Array]


@pytest.fixture(scope="module", params=PROCESSES)
def toy(request: pytest.FixtureRequest) -> tuple[str, Any]:
    return request.param, TOYS[request.param](EVENTS, np.random.default_rng(5))


def assert_mean(values: Any, expected: float, *, sigmas: float = 4.5) -> None:
    """Within its own error; so many sigmas that all of these tests together hold."""
    error = np.std(values) / math.sqrt(len(values))
    assert np.mean(values) == pytest.approx(expected, abs=sigmas * error + 1e-12)


def test_every_toy_holds_one_number_an_event(toy: tuple[str, Any]) -> None:
    _, made = toy
    for values in made:
        assert values.shape == (EVENTS,)
        assert np.isfinite(values).all()
    assert set(np.unique(made.label)) == {0, 1}


@pytest.mark.parametrize(("process", "width"), [("louppe", 1.0), ("regression", 1.0), ("zgubic", 0.5**0.5)])
def test_gaussian_toys_have_the_moments_of_their_papers(process: str, width: float) -> None:
    toy = TOYS[process](EVENTS, np.random.default_rng(6))
    background, signal = toy.label == 0, toy.label == 1
    assert_mean(toy.label, 0.5)
    for x in (toy.x1, toy.x2):
        assert_mean(x[background], 0)
        assert_mean(np.square(x[background]), 1)
    assert_mean((toy.x1 * toy.x2)[background], -0.5)
    # Given z the signal is round about (1, 1 + z), for any z.
    first, second = toy.x1[signal] - 1, toy.x2[signal] - 1 - toy.z[signal]
    for x in (first, second):
        assert stats.kstest(x, stats.norm(scale=width).cdf).pvalue > 1e-3
    for product in (first * second, first * toy.z[signal], second * toy.z[signal]):
        assert_mean(product, 0)
    assert stats.kstest(toy.z[signal], stats.norm.cdf).pvalue > 1e-3
    if process == "zgubic":
        assert (toy.z[background] == 0).all()
    else:
        assert stats.kstest(toy.z[background], stats.norm.cdf).pvalue > 1e-3
        assert_mean((toy.z * toy.x2)[background], 0)
        assert_mean((toy.z * toy.x1)[background], 0)


def above(z: float, *, sigma: float) -> float:
    """P(u < z + sigma n) for u uniform in (0, 1) and n a unit Gaussian: the mean of a clipped Gaussian."""
    inside, _ = integrate.quad(lambda t: t * stats.norm.pdf(t, z, sigma), 0, 1, points=[min(max(z, 0), 1)])
    return float(inside + stats.norm.sf(1, z, sigma))


@pytest.mark.parametrize(
    ("process", "scale", "sigma", "low"), [("discrete", 4, 0.05, -1.0), ("slides", 1, 1.0, 0.0)]
)
def test_the_label_depends_on_the_discrete_nuisance(
    process: str, scale: float, sigma: float, low: float
) -> None:
    toy = TOYS[process](EVENTS, np.random.default_rng(7))
    assert stats.chisquare(np.bincount(toy.z.astype(int))).pvalue > 1e-3
    assert stats.kstest(toy.x1, stats.uniform(low, 1 - low).cdf).pvalue > 1e-3
    assert stats.kstest(toy.x2 - toy.z / scale, stats.norm(scale=sigma).cdf).pvalue > 1e-3
    for value in range(5):
        own = toy.label[toy.z == value]
        expected = above(value / scale, sigma=sigma)
        assert own.mean() == pytest.approx(expected, abs=4.5 * math.sqrt(0.25 / len(own)))
    # With both features the label is certain.
    u = (toy.x1 + 1) / 2 if process == "discrete" else toy.x1
    np.testing.assert_array_equal(toy.label, u < toy.x2)


def test_two_crossing_lines_need_both_features() -> None:
    toy = TOYS["unused"](EVENTS, np.random.default_rng(8))
    np.testing.assert_array_equal(toy.z, toy.x1)
    away = np.abs(toy.x1 - 0.5)
    assert away.min() >= 0.1
    assert away.max() <= 0.5
    spread = np.where(toy.label == 1, toy.x2 - toy.x1, toy.x2 - 1 + toy.x1) / away**2
    assert stats.kstest(spread, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    # Neither alone tells the label; together they do without a mistake.
    for x in (toy.x1, toy.x2):
        assert stats.ks_2samp(x[toy.label == 0], x[toy.label == 1]).pvalue > 1e-3
    np.testing.assert_array_equal(toy.label, (toy.x1 - 0.5) * (toy.x2 - 0.5) > 0)


def test_a_file_is_the_same_for_any_number_of_workers_and_for_the_jobs_alone(
    tmp_path: Path, load: Load
) -> None:
    asked: dict[str, Any] = {"events": 250, "seed": 3, "job_events": 100}
    one = generate("discrete", out=tmp_path / "one.root", workers=1, **asked)
    two = generate("discrete", out=tmp_path / "two.root", workers=2, **asked)
    assert (one.events, one.stored, one.jobs) == (two.events, two.stored, two.jobs) == (250, 250, 3)
    events = load(one.out)
    assert ak.array_equal(events, load(two.out))
    assert read_provenance(one.out) == read_provenance(two.out)
    again = ak.concatenate([regenerate(one.out, job) for job in (1, 2, 3)])
    assert ak.array_equal(events, again[events.fields])
    assert set(events.luminosityBlock.tolist()) == {luminosity_block(3, job) for job in (1, 2, 3)}
    ids = set(zip(events.run.tolist(), events.luminosityBlock.tolist(), events.event.tolist(), strict=True))
    assert len(ids) == 250
    with uproot.open(one.out) as file:
        assert {branch.name: branch.typename for branch in file["Events"].branches} == BRANCHES


def test_another_seed_gives_other_events(tmp_path: Path, load: Load) -> None:
    one, two = (load(generate("louppe", out=tmp_path / f"{s}.root", events=50, seed=s).out) for s in (1, 2))
    assert not np.isin(ak.to_numpy(one.x1), ak.to_numpy(two.x1)).any()


def test_what_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no process 'lupe'.*louppe"):
        generate("lupe", out=tmp_path / "x.root", events=10)
    with pytest.raises(InputError, match="events must be above 0"):
        generate("louppe", out=tmp_path / "x.root", events=0)
    made = generate("louppe", out=tmp_path / "x.root", events=10).out
    with pytest.raises(InputError, match="no job 2; it has jobs 1 to 1"):
        regenerate(made, 2)


def test_the_command_makes_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "sys.argv", ["hepdecorr", "generate", "toys", "--events", "20", "--out", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (0, None)
    assert {file.name for file in tmp_path.iterdir()} == {f"toys_{name}.root" for name in PROCESSES}
    assert "20 events" in capsys.readouterr().out
