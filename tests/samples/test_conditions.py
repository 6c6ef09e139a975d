"""Runs with hidden conditions: shifts of the right size, which signal and continuum share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from coffea.nanoevents import NanoEventsFactory
from scipy.stats import kstest
from typer.testing import CliRunner

from hepdecorr.cli.main import app
from hepdecorr.columnar.schemas import BsgammaSchema
from hepdecorr.errors import InputError
from hepdecorr.samples import read_provenance
from hepdecorr.samples.bsgamma import Conditions, Options, Summary, generate, generation, regenerate
from hepdecorr.samples.bsgamma import kinematics as kin
from hepdecorr.samples.bsgamma.detector import detect
from hepdecorr.samples.bsgamma.generation import Batch, Particles
from hepdecorr.samples.bsgamma.production import hopeful

Load = Callable[[Path], ak.Array]

CONDITIONS = Conditions(runs=4, seed=2)


def make(out: Path, process: str, **arguments: int) -> Summary:
    options = Options(conditions=CONDITIONS)
    return generate(process, out=out, **{"seed": 3, "job_events": 4000, "options": options, **arguments})


@pytest.fixture(scope="module")
def signal(pythia: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("runs") / "signal.root", "signal", events=8000).out


@pytest.fixture(scope="module")
def continuum(pythia: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("runs") / "continuum.root", "continuum", events=12_000).out


def test_shifts_are_normal_and_depend_on_seed_and_run_alone() -> None:
    shifts = Conditions(runs=3000, photon_scale=0.02, beam_shift=0.003).shifts()
    for values, deviation in zip(shifts, (0.02, 0.003), strict=True):
        assert np.abs(values).max() < 3 * deviation
        assert kstest(values / deviation, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(shifts)[0, 1]) < 0.06
    few = Conditions(runs=7, photon_scale=0.04, beam_shift=0.003).shifts()
    np.testing.assert_array_equal(few.photon_scale, 2 * shifts.photon_scale[:7])
    np.testing.assert_array_equal(few.beam_shift, shifts.beam_shift[:7])
    assert not np.isin(Conditions(runs=7, seed=2).shifts().beam_shift, few.beam_shift).any()


def test_numbers_of_runs_are_none_of_other_seeds_and_not_those_without_runs() -> None:
    numbers = [Conditions(runs=99_999, seed=seed).number(np.array([0, 99_998])) for seed in (0, 1, 2)]
    flat = np.concatenate(numbers)
    assert (np.diff(flat) > 0).all()
    assert flat[0] > 2


def test_signal_peaks_where_the_conditions_of_its_run_put_it(signal: Path, load: Load) -> None:
    events = load(signal)
    events = events[events.Bcand_isMatched]
    shifts = CONDITIONS.shifts()
    found = {"mbc": [], "delta_e": [], "energy": []}
    for run in range(4):
        own = events[events.run == CONDITIONS.number(np.int64(run))]
        assert len(own) > 500
        np.testing.assert_allclose(own.Conditions_photonScale, shifts.photon_scale[run], rtol=1e-6)
        np.testing.assert_allclose(own.Conditions_beamShift, shifts.beam_shift[run], rtol=1e-6)
        found["mbc"].append(ak.mean(own.Bcand_mbc[own.Bcand_mbc > 5.26]))
        found["delta_e"].append(np.median(own.Bcand_deltaE))
        found["energy"].append(np.median(own.Bcand_EgStar))
    # M_bc = m_B - d, Delta E = d + s E_gamma, E_gamma = 2.56 GeV (1 + s), each with what a run can tell.
    mbc, delta_e, energy = (np.array(values) - np.mean(values) for values in found.values())
    scale, beam = (values - values.mean() for values in shifts)
    np.testing.assert_allclose(mbc, -beam, atol=7e-4)
    np.testing.assert_allclose(delta_e, 2.56 * scale + beam, atol=0.012)
    np.testing.assert_allclose(energy, 2.56 * scale, atol=0.03)
    assert np.ptp(beam) > 3e-3
    assert np.ptp(scale) > 0.02


def test_both_processes_share_runs_but_no_event(signal: Path, continuum: Path, load: Load) -> None:
    keys = []
    truth = []
    for events in (load(signal), load(continuum)):
        assert set(events.run.tolist()) == set(CONDITIONS.number(np.arange(4)).tolist())
        columns = (events.run, events.Conditions_photonScale, events.Conditions_beamShift)
        truth.append(set(zip(*(column.tolist() for column in columns), strict=True)))
        ids = (events.run, events.luminosityBlock, events.event)
        keys.append(set(zip(*(column.tolist() for column in ids), strict=True)))
        assert len(keys[-1]) == len(events)
    assert truth[0] == truth[1]
    assert len(truth[0]) == 4
    assert not keys[0] & keys[1]


@pytest.mark.parametrize(("process", "candidates"), [("signal", 900), ("continuum", 9)])
def test_any_number_of_workers_and_every_job_again(
    process: str, candidates: int, pythia: None, tmp_path: Path, load: Load
) -> None:
    asked = {"candidates": candidates, "job_events": 500}
    one = make(tmp_path / "one.root", process, workers=1, **asked)
    two = make(tmp_path / "two.root", process, workers=2, **asked)
    events = load(one.out)
    assert one.jobs > 1
    assert ak.array_equal(events, load(two.out))
    assert ak.array_equal(events, ak.concatenate([regenerate(one.out, j + 1) for j in range(one.jobs)]))
    told = read_provenance(one.out)["options"]["conditions"]
    assert told == {"runs": 4, "photon_scale": 0.02, "beam_shift": 0.0025, "seed": 2}


def test_a_file_without_runs_tells_nothing_of_them(signal_file: Path, load: Load) -> None:
    assert "conditions" not in read_provenance(signal_file)["options"]
    assert not [name for name in load(signal_file).fields if name.startswith("Conditions")]


def test_coffea_sees_the_conditions(signal: Path, load: Load) -> None:
    events = NanoEventsFactory.from_root(
        {str(signal): "Events"}, schemaclass=BsgammaSchema, mode="eager"
    ).events()
    stored = load(signal)
    assert events.Conditions.photonScale.tolist() == stored.Conditions_photonScale.tolist()
    assert events.Conditions.beamShift.tolist() == stored.Conditions_beamShift.tolist()


def test_energies_of_photons_are_scaled_and_nothing_else() -> None:
    count = 5000
    particles = Particles(
        event=np.repeat(np.arange(count), 2),
        id=np.tile(np.array([22, 211], dtype=np.int32), count),
        mother=np.full(2 * count, 511, dtype=np.int32),
        signal=np.zeros(2 * count, dtype=bool),
        p4=kin.with_mass(np.tile([0.052, 0.0, 0.0], (2 * count, 1)), np.tile([0.0, 0.1396], count)),
    )
    scale = np.where(np.arange(count) % 2, 1.3, 1.0)
    plain = detect(particles, np.random.default_rng(1))
    scaled = detect(particles, np.random.default_rng(1), photon_scale=scale)
    np.testing.assert_array_equal(plain[0].pt, scaled[0].pt)
    # Scaled before the threshold: more photons pass it, and those that passed are as much harder.
    assert len(scaled[1].event) > len(plain[1].event)
    both = np.isin(scaled[1].event, plain[1].event)
    np.testing.assert_allclose(scaled[1].pt[both], plain[1].pt * scale[plain[1].event], rtol=1e-12)


def test_no_event_is_left_out_whose_photon_the_scale_lifts() -> None:
    energy = np.array([1.55, 1.55, 1.75, 1.75])
    particles = Particles(
        event=np.arange(4),
        id=np.full(4, 22, dtype=np.int32),
        mother=np.full(4, 111, dtype=np.int32),
        signal=np.zeros(4, dtype=bool),
        p4=kin.with_mass(np.outer(energy, [1.0, 0.0, 0.0]), 0.0),
    )
    batch = Batch(particles, np.ones(4, dtype=np.int32), np.zeros(4, dtype=np.int64))
    kept = hopeful(batch, np.array([1.0, 1.1, 1.0, 0.9]))
    assert kept.event.tolist() == [1, 2]


def test_continuum_follows_the_beams(pythia: None) -> None:
    make = generation.make_generator
    shifts = np.array([-0.005, 0.005])
    plain = make("continuum", seed=9, rng=np.random.default_rng(1))(400)
    moved = make("continuum", seed=9, rng=np.random.default_rng(1), beam_shifts=shifts)(400)
    assert set(moved.run.tolist()) == {0, 1}
    before, after = plain.particles, moved.particles
    factor = 1 + shifts[moved.run[after.event]] / kin.BEAM_STAR
    np.testing.assert_allclose(after.p4[:, :3], factor[:, None] * before.p4[:, :3], rtol=1e-12)
    # Of stable particles; the rest of the energy is in masses, which do not scale.
    missing = np.bincount(after.event, after.p4[:, 3] - before.p4[:, 3]) / (2 * shifts[moved.run])
    assert 0.8 < np.median(missing) < 1
    np.testing.assert_allclose(kin.invariant_mass(after.p4), kin.invariant_mass(before.p4), atol=1e-6)


def test_pairs_lie_above_the_threshold_and_centred_on_their_run() -> None:
    shift = np.repeat([-0.009, 0.0, 0.004], 20_000)
    p4, _ = generation.draw_pairs(len(shift), np.random.default_rng(2), beam_shift=shift)
    energy = p4[:, 3].reshape(3, -1)
    assert (energy >= kin.B0_MASS).all()
    assert energy[1:].mean(axis=1) == pytest.approx([5.29, 5.294], abs=1e-4)
    np.testing.assert_allclose(energy.std(axis=1)[1:], 0.0025, rtol=0.03)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"runs": 0}, r"runs must lie in \[1, 99999\], not 0"),
        ({"runs": 100_000}, "runs must lie in"),
        ({"runs": 3, "photon_scale": 0.2}, r"photon_scale must lie in \[0, 0.1\], not 0.2"),
        ({"runs": 3, "photon_scale": float("nan")}, "photon_scale must lie in"),
        ({"runs": 3, "beam_shift": -0.001}, r"beam_shift must lie in \[0, 0.003\] GeV"),
        ({"runs": 3, "seed": -1}, "must not be negative"),
    ],
)
def test_conditions_that_cannot_be(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Conditions(**wrong)


def test_command_line(pythia: None, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        out = str(tmp_path / "s.root")
        asked = ["generate", "bsgamma", "--process", "signal", "--candidates", "60", "--out", out, *words]
        result = CliRunner().invoke(app, asked)
        return str(result.exception) if result.exit_code else ""

    assert not run("--runs", "6", "--photon-scale", "0.03", "--conditions-seed", "5")
    told = read_provenance(tmp_path / "s.root")["options"]["conditions"]
    assert told == {"runs": 6, "photon_scale": 0.03, "beam_shift": 0.0025, "seed": 5}
    assert "say how many with --runs" in run("--beam-shift", "0.002")
