"""What can be chosen of a sample of jets, and what each process makes of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import numpy as np

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError

PROCESSES = ("qcd", "w", "top", "h4j")
LAYOUTS = ("pfnano", "v15")

# Of W', Z' and H, and of the two h that H decays to, in GeV.
MASSES = {"w": 1300.0, "top": 1350.0, "h4j": 174.0}
LIGHT_MASS = 80.0
# Of W and Z, or of top, in GeV; at most a quarter of W' or Z', whose low tail must hold two of them.
BOSON_MASSES = (15.0, 300.0)
TOP_MASSES = (40.0, 400.0)
LIGHTER = 4.0
# A sample needs jets in all of R around |eta| < 2, and the detector ends at 3.
RADIUS_MAX = 1.0
BEAM = 6500.0

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
# The stream of random numbers that the boson masses of jobs start from.
_SPECTRUM = 1_000


@dataclass(frozen=True)
class Options:
    """What is generated and how it is stored; None: what suits the process.

    mass: of W', Z' or H, GeV; light_mass: of h in H -> hh, GeV; boson_mass: of W and of Z in w, GeV (their
    own), and with boson_mass_max the lower end of a range of them, flat: each job has one value of it;
    top_mass: of top, GeV (its own), with the W in it scaled alike, so that the angles between the three
    quarks are those of a top with as much more pT; pthat_min, pthat_max: the range of the
    transverse momentum of the hard 2 -> 2 scattering, GeV (qcd: from 0.9 to 2.5 times pt_min; h4j: from
    1.05 times pt_min, with flat_pt to 2.5 times); flat_pt: events about evenly in this range, with weights
    that give back the physical spectrum (qcd, h4j); mpi: multiparton interactions (without them twice as
    fast, and jets 10 % lighter); radius: R of the anti-kT jets; pt_min: jets above, GeV; layout: names and
    shape of the constituents' tables, "pfnano" or NanoAOD "v15".
    """

    mass: float | None = None
    light_mass: float | None = None
    boson_mass: float | None = None
    boson_mass_max: float | None = None
    top_mass: float | None = None
    pthat_min: float | None = None
    pthat_max: float | None = None
    flat_pt: bool = False
    mpi: bool = True
    radius: float = 1.0
    pt_min: float = 450.0
    layout: str = "pfnano"

    def settled(self, process: str) -> Options:
        """With every value that `process` uses filled in.  InputError for what the process cannot do."""
        self._check_numbers()
        if self.layout not in LAYOUTS:
            raise InputError(f"layout: no layout {self.layout!r}{suggest(self.layout, LAYOUTS)}")
        if not 0.2 <= self.radius <= RADIUS_MAX:
            raise InputError(f"radius must lie in [0.2, {RADIUS_MAX}], not {self.radius}")
        if not 50.0 <= self.pt_min <= 3000.0:
            raise InputError(f"pt_min must lie in [50, 3000] GeV, not {self.pt_min}")
        scattering = process in {"qcd", "h4j"}
        for name in ("pthat_min", "pthat_max", "flat_pt"):
            if not scattering and getattr(self, name):
                raise InputError(
                    f"{name}: {process} makes one heavy resonance, which has no pT-hat; its mass sets the pT "
                    "of the jets (give mass), and qcd and h4j can do this"
                )
        mass, light_mass = self._masses(process)
        self._check_decays(process, mass)
        low, high = self._pthat(process) if scattering else (None, None)
        return replace(self, mass=mass, light_mass=light_mass, pthat_min=low, pthat_max=high)

    def of_job(self, *, seed: int, job: int) -> Options:
        """Settled options as one job (from 1) has them: of a range of boson masses, one value.

        The values of successive jobs fill the range evenly, however many they are: multiples of the golden
        ratio modulo 1, the additive sequence of lowest discrepancy (Niederreiter, ISBN 978-0-89871-295-7,
        chapter 3), from a start that the seed gives.
        """
        if self.boson_mass is None or self.boson_mass_max is None:
            return self
        start = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SPECTRUM,))).random()
        place = (start + job * _GOLDEN) % 1.0
        value = self.boson_mass + (self.boson_mass_max - self.boson_mass) * place
        return replace(self, boson_mass=round(value, 3), boson_mass_max=None)

    def _check_numbers(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, float) and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be above 0, not {value}")

    def _masses(self, process: str) -> tuple[float | None, float | None]:
        if process != "h4j" and self.light_mass is not None:
            raise InputError(f"light_mass is that of h in H -> hh; {process} has none")
        if process == "qcd":
            if self.mass is not None:
                raise InputError("mass is that of W', Z' or H; qcd has none")
            return None, None
        mass = MASSES[process] if self.mass is None else self.mass
        if process == "h4j":
            light = LIGHT_MASS if self.light_mass is None else self.light_mass
            if not 15.0 <= light <= 240.0:
                raise InputError(f"light_mass must lie in [15, 240] GeV, not {light}")
            _within("mass", mass, low=2 * light + 5, high=500.0, why="twice light_mass + 5")
            return mass, light
        _within("mass", mass, low=max(2 * self.pt_min, 400.0), high=8000.0, why="twice pt_min")
        return mass, None

    def _check_decays(self, process: str, mass: float | None) -> None:
        """What W', Z' decay to."""
        for name, owner, (low, high) in (
            ("boson_mass", "w", BOSON_MASSES),
            ("boson_mass_max", "w", BOSON_MASSES),
            ("top_mass", "top", TOP_MASSES),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if process != owner:
                raise InputError(f"{name} is of the process {owner}; {process} has none")
            assert mass is not None
            end = min(high, mass / LIGHTER)
            _within(name, value, low=low, high=end, why=f"to {high:g}, and to a quarter of mass")
        if self.boson_mass_max is None:
            return
        if self.boson_mass is None or not self.boson_mass < self.boson_mass_max:
            raise InputError(
                f"boson_mass_max {self.boson_mass_max:g} is the upper end of a range; give boson_mass, its "
                f"lower end, not {self.boson_mass}"
            )

    def _pthat(self, process: str) -> tuple[float, float | None]:
        # Radiation lifts some jets of QCD above the pT-hat of their event; those of h4j lose neutrinos.
        low = self.pthat_min or (0.9 if process == "qcd" else 1.05) * self.pt_min
        end = self.pthat_max
        if end is None and (process == "qcd" or self.flat_pt):
            end = 2.5 * max(self.pt_min, self.pthat_min or 0.0)
        high = BEAM if end is None else end
        if not low < high <= BEAM:
            raise InputError(
                f"pthat_min {low:g} must be below pthat_max {high:g}, which must be at most {BEAM:g} GeV"
            )
        if high <= self.pt_min:
            raise InputError(f"pthat_max {high:g} must be above pt_min {self.pt_min:g}, or there are no jets")
        return low, end


def _within(name: str, value: float, *, low: float, high: float, why: str) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} must lie in [{low:g} ({why}), {high:g}] GeV, not {value:g}")
