"""What the options make of each process, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hepdecorr.errors import InputError
from hepdecorr.samples.jets import PROCESSES, Options
from hepdecorr.samples.jets.generation import settings


def test_each_process_fills_in_its_own() -> None:
    found = {process: Options().settled(process) for process in PROCESSES}
    assert {p: o.mass for p, o in found.items()} == {"qcd": None, "w": 1300, "top": 1350, "h4j": 174}
    assert {p: o.light_mass for p, o in found.items()} == {"qcd": None, "w": None, "top": None, "h4j": 80}
    ranges = {p: (o.pthat_min, o.pthat_max) for p, o in found.items()}
    resonant = dict.fromkeys(("w", "top"), (None, None))
    assert ranges == {"qcd": (405, 1125), "h4j": (pytest.approx(472.5), None), **resonant}
    for process, options in found.items():
        assert options.settled(process) == options
    assert Options(flat_pt=True).settled("h4j").pthat_max == 1125
    assert Options(pthat_min=1000).settled("qcd").pthat_max == 2500


@pytest.mark.parametrize(
    ("process", "arguments", "message"),
    [
        ("w", {"mass": 300.0}, r"mass must lie in \[900 \(twice pt_min\), 8000\] GeV, not 300"),
        ("top", {"mass": 9000.0}, "not 9000"),
        ("top", {"mass": math.nan}, "mass must be above 0, not nan"),
        ("top", {"pt_min": 700.0}, r"\[1400 \(twice pt_min\), 8000\] GeV, not 1350"),
        ("h4j", {"light_mass": 90.0}, r"mass must lie in \[185 \(twice light_mass \+ 5\), 500\]"),
        ("h4j", {"light_mass": 5.0}, "light_mass must lie in"),
        ("w", {"light_mass": 50.0}, "light_mass is that of h in H -> hh; w has none"),
        ("qcd", {"mass": 100.0}, "qcd has none"),
        ("w", {"boson_mass": 10.0}, r"boson_mass must lie in \[15 \(to 300, and to a quarter of mass\)"),
        ("w", {"boson_mass": 80.0, "boson_mass_max": 290.0, "mass": 1000.0}, "boson_mass_max .* 250\\] GeV"),
        ("w", {"boson_mass_max": 200.0}, "give boson_mass, its lower end, not None"),
        ("w", {"boson_mass": 80.0, "boson_mass_max": 80.0}, "give boson_mass, its lower end, not 80"),
        ("top", {"boson_mass": 80.0}, "boson_mass is of the process w; top has none"),
        ("w", {"top_mass": 80.0}, "top_mass is of the process top; w has none"),
        ("qcd", {"boson_mass_max": 80.0}, "boson_mass_max is of the process w; qcd has none"),
        ("top", {"top_mass": 350.0}, r"top_mass must lie in \[40 .*, 337.5\] GeV, not 350"),
        ("w", {"flat_pt": True}, "flat_pt: w makes one heavy resonance"),
        ("top", {"pthat_min": 500.0}, "pthat_min: top makes one heavy resonance"),
        ("qcd", {"pthat_max": 300.0}, "pthat_min 405 must be below pthat_max 300"),
        ("qcd", {"pthat_min": 100.0, "pthat_max": 400.0}, "must be above pt_min 450, or there are no jets"),
        ("qcd", {"pthat_min": -5.0}, "pthat_min must be above 0, not -5"),
        ("qcd", {"pthat_max": 7000.0}, "at most 6500 GeV"),
        ("qcd", {"radius": 1.5}, r"radius must lie in \[0.2, 1.0\], not 1.5"),
        ("qcd", {"pt_min": 10.0}, r"pt_min must lie in \[50, 3000\] GeV"),
        ("qcd", {"layout": "v14"}, "layout: no layout 'v14'; did you mean 'v15'"),
    ],
)
def test_what_cannot_be_had_is_refused(process: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Options(**arguments).settled(process)


def test_settings_follow_the_options() -> None:
    def lines(process: str, **arguments: Any) -> set[str]:
        return set(settings(process, Options(**arguments).settled(process)))

    assert "PartonLevel:MPI = on" in lines("w")
    assert "PartonLevel:MPI = off" in lines("w", mpi=False)
    assert {"34:m0 = 2000.0", "PhaseSpace:mHatMin = 1200.0"} <= lines("w", mass=2000.0)
    assert {"35:m0 = 200.0", "25:m0 = 60.0"} <= lines("h4j", mass=200.0, light_mass=60.0)
    falling, flat = lines("qcd"), lines("qcd", flat_pt=True)
    assert {"PhaseSpace:bias2SelectionPow = 4.5"} == falling - flat
    assert not any("bias2Selection" in line for line in lines("h4j"))
    assert any("bias2Selection = on" in line for line in lines("h4j", flat_pt=True))


def test_masses_of_other_bosons_and_tops() -> None:
    def lines(process: str, **arguments: Any) -> set[str]:
        return set(settings(process, Options(**arguments).settled(process)))

    own = lines("w")
    assert not any(line.startswith(("24:m", "23:m")) for line in own)
    light = lines("w", boson_mass=59.0) - own
    ends = {"m0": "59", "mMin": "29.5", "mMax": "118"}
    assert light == {f"{code}:{name} = {value}" for code in (23, 24) for name, value in ends.items()}
    top = lines("top", top_mass=86.5)
    assert {"6:m0 = 86.5", "6:mMin = 43.25", "24:m0 = 40.1925"} <= top
    # Nothing but b W: a heavy W must not go to t b.
    assert {"24:onMode = off", "24:onIfAny = 2 4"} <= top & lines("w", boson_mass=280.0)


def test_masses_of_jobs_fill_their_range_evenly() -> None:
    options = Options(boson_mass=20.0, boson_mass_max=280.0).settled("w")
    jobs = [options.of_job(seed=3, job=1 + i) for i in range(200)]
    assert all(job.boson_mass_max is None for job in jobs)
    found = np.sort([job.boson_mass or 0.0 for job in jobs])
    # No gap above 3 / n of the range: the golden ratio's bound.
    assert 20 <= found[0] < found[-1] <= 280
    assert np.diff(found).max() < 3 / 200 * 260
    assert np.diff(found).min() > 0.3 / 200 * 260
    assert jobs[4] == options.of_job(seed=3, job=5)
    assert jobs[4].boson_mass != options.of_job(seed=4, job=5).boson_mass
    one = Options(boson_mass=59.0).settled("w")
    assert one.of_job(seed=3, job=7) is one
