"""Exam scores against the closed forms of their process, and their files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from scipy import stats

from hepdecorr.cli.main import main
from hepdecorr.errors import InputError
from hepdecorr.samples import read_provenance
from hepdecorr.samples.exam_scores import Options, generate, luminosity_block, process, regenerate
from hepdecorr.samples.exam_scores.distribution import Scores, draw

SCHOOLS = 8000
NOISE = 0.5
BRANCHES = {"run": "uint32_t", "luminosityBlock": "uint32_t", "event": "uint64_t"}
BRANCHES |= {**dict.fromkeys(("x", "mu", "sigma", "v"), "float"), "label": "int32_t"}

Load = Callable[[Path], ak.Array]


@pytest.fixture(scope="module")
def scores() -> Scores:
    return draw(SCHOOLS, np.random.default_rng(4), Options(noise=NOISE))


def assert_mean(values: Any, expected: float, *, sigmas: float = 4.5) -> None:
    error = np.std(values) / math.sqrt(len(values))
    assert np.mean(values) == pytest.approx(expected, abs=sigmas * error + 1e-12)


def test_schools_have_eight_students_and_a_poisson_of_sixteen_more(scores: Scores) -> None:
    sizes = np.bincount(scores.school)
    assert len(sizes) == SCHOOLS
    assert sizes.min() >= 8
    edges = [-1, *range(8, 25), 60]
    counts = np.histogram(sizes - 8, bins=np.array(edges) + 0.5)[0]
    expected = SCHOOLS * np.diff(stats.poisson(16).cdf(edges))
    assert stats.chisquare(counts, expected, sum_check=False).pvalue > 1e-3
    first = np.flatnonzero(scores.student == 1)
    np.testing.assert_array_equal(np.diff(first), sizes[:-1])
    np.testing.assert_array_equal(np.diff(scores.student)[np.diff(scores.school) == 0], 1)


def test_unknowns_are_unit_gaussians_of_school_and_student(scores: Scores) -> None:
    first = scores.student == 1
    for name in ("mu", "sigma"):
        values = getattr(scores, name)
        np.testing.assert_array_equal(values, values[first][scores.school])
        assert stats.kstest(values[first], stats.norm.cdf).pvalue > 1e-3
    assert stats.kstest(scores.v, stats.norm.cdf).pvalue > 1e-3
    for product in (scores.mu[first] * scores.sigma[first], scores.mu[first] * scores.v[first]):
        assert_mean(product, 0)
    eps = scores.x - process(scores.mu, scores.sigma, scores.v)
    assert stats.kstest(eps, stats.norm(scale=NOISE).cdf).pvalue > 1e-3


def test_scores_have_the_moments_of_their_process(scores: Scores) -> None:
    # Students of one school are alike: one of each school, for independent numbers.
    first = scores.student == 1
    x, sigma = scores.x[first], scores.sigma[first]
    assert_mean(x, 0)
    assert_mean(x**2, 10 + NOISE**2)
    assert_mean(x * scores.mu[first], 2)
    assert_mean(x * scores.v[first], 2)  # E(sigma^2 + 1)
    assert_mean((x - 2 * scores.mu[first]) ** 2 - (sigma**2 + 1) ** 2, NOISE**2)
    assert_mean(x * scores.x[scores.student == 2], 4)


def test_schools_of_a_batch_may_share_their_size() -> None:
    made = draw(200, np.random.default_rng(4), Options(same_size=True))
    sizes = np.bincount(made.school)
    assert len(sizes) == 200
    batches = [sizes[start : start + 64] for start in range(0, 200, 64)]
    assert all((batch == batch[0]).all() for batch in batches)
    assert len({int(batch[0]) for batch in batches}) > 1


def test_a_file_is_the_same_for_any_number_of_workers_and_for_the_jobs_alone(
    tmp_path: Path, load: Load
) -> None:
    asked: dict[str, Any] = {"groups": 25, "seed": 3, "job_groups": 10, "options": Options(noise=0.1)}
    one = generate(out=tmp_path / "one.root", workers=1, **asked)
    two = generate(out=tmp_path / "two.root", workers=2, **asked)
    assert (one.events, one.jobs, one.unit, one.noun) == (two.events, 3, "schools", "students")
    assert one.events == 25
    events = load(one.out)
    assert one.stored == len(events)
    assert ak.array_equal(events, load(two.out))
    assert read_provenance(one.out) == read_provenance(two.out)
    assert read_provenance(one.out)["options"] == {"noise": 0.1, "same_size": False}
    again = ak.concatenate([regenerate(one.out, job) for job in (1, 2, 3)])
    assert ak.array_equal(events, again[events.fields])
    assert set(events.luminosityBlock.tolist()) == {luminosity_block(3, job) for job in (1, 2, 3)}
    # Schools are numbered through all jobs.
    assert sorted(set(events.run.tolist())) == list(range(3_000_001, 3_000_026))
    assert len(set(zip(events.run.tolist(), events.event.tolist(), strict=True))) == len(events)
    with uproot.open(one.out) as file:
        assert {branch.name: branch.typename for branch in file["Events"].branches} == BRANCHES


def test_another_seed_gives_other_schools(tmp_path: Path, load: Load) -> None:
    one, two = (load(generate(out=tmp_path / f"{s}.root", groups=5, seed=s).out) for s in (1, 2))
    assert not np.isin(ak.to_numpy(one.x), ak.to_numpy(two.x)).any()
    assert not np.isin(ak.to_numpy(one.run), ak.to_numpy(two.run)).any()


def test_what_cannot_be_made_is_said(tmp_path: Path) -> None:
    out = tmp_path / "x.root"
    with pytest.raises(InputError, match="schools must be above 0"):
        generate(out=out, groups=0)
    with pytest.raises(InputError, match="more than the 1000000 of one seed"):
        generate(out=out, groups=1_000_001)
    for noise in (-1.0, math.nan):
        with pytest.raises(InputError, match="noise must not be below 0"):
            Options(noise=noise)
    with pytest.raises(InputError, match="no process 'pupils'"):
        generate("pupils", out=out)
    with pytest.raises(InputError, match="no job 2; it has jobs 1 to 1"):
        regenerate(generate(out=out, groups=2).out, 2)


def test_the_command_makes_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], load: Load
) -> None:
    command = [
        "hepdecorr",
        "generate",
        "exam-scores",
        "--groups",
        "7",
        "--noise",
        "0",
        "--out",
        str(tmp_path),
    ]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (0, None)
    events = load(tmp_path / "exam_scores.root")
    mu, sigma, v, x = (ak.to_numpy(events[name]).astype(float) for name in ("mu", "sigma", "v", "x"))
    np.testing.assert_allclose(x, process(mu, sigma, v), rtol=1e-5, atol=1e-5)
    assert f"{len(x)} students from 7 schools" in capsys.readouterr().out
