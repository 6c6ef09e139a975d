"""What networks over constituents see: a few numbers for each, padded, with a mask.

    x, mask, dropped = prepare(rows, ["log_pt", "deta", "dphi", "charge"], length=40)

Momenta are in GeV, and weighted or raw as `constituents.conventions` says.  Relative ones are relative to
the branches of the jet (FatJet_pt, FatJet_mass), which carry jet energy corrections and shifts of them, not
to the sum of the constituents; deta and dphi count from its branches eta and phi, dphi from -pi to pi.
Logarithms are natural ones; what is below FLOOR (1e-8) is taken as FLOOR.  A jet of negative mass, as
NanoAOD writes a negative mass squared, has 0, and is counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr import catalogue
from hepdecorr.columnar import constituents
from hepdecorr.columnar.constituents import Constituents
from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.constituent_columns import CODES, Jets, Particles, fill
from hepdecorr.columnar.features.constituent_frames import LIGHT, at_rest
from hepdecorr.columnar.features.sharing import Description, intermediate
from hepdecorr.errors import InputError

BRANCH = "branch:"


class Padded(NamedTuple):
    """x (rows, L, features) float32, zero in the padding; mask (rows, L) bool; how many were left out."""

    x: NDArray[np.float32]
    mask: NDArray[np.bool_]
    dropped: int


@dataclass(frozen=True)
class ConstituentFeature:
    """A number for each constituent: `feature(rows)` gives them flat, in the order of `constituents.of`."""

    name: str
    unit: str
    title: str
    needs: frozenset[str]

    def __call__(self, rows: Any) -> NDArray[np.float32]:
        """Shape (constituents,), float32."""
        found = constituents.of(rows)
        out = np.empty((len(found.pt), 1), np.float32)
        every = np.diff(found.start)
        _fill(rows, [self.name], first=found.start[:-1], kept=every, out=out, at=slice(None))
        return out[:, 0]


def _known() -> dict[str, ConstituentFeature]:
    listed = (
        ("pt", "GeV", r"$p_T$", ""),
        ("log_pt", "", r"$\log(p_T/\mathrm{GeV})$", ""),
        ("pt_rel", "", r"$p_T/p_T^\mathrm{jet}$", "jet_pt"),
        ("log_pt_rel", "", r"$\log(p_T/p_T^\mathrm{jet})$", "jet_pt"),
        ("e", "GeV", r"$E$", "eta mass"),
        ("log_e", "", r"$\log(E/\mathrm{GeV})$", "eta mass"),
        ("log_e_rel", "", r"$\log(E/E^\mathrm{jet})$", "eta mass jet_e"),
        ("eta", "", r"$\eta$", "eta"),
        ("phi", "", r"$\phi$", "phi"),
        ("deta", "", r"$\Delta\eta$", "eta jet_eta"),
        ("dphi", "", r"$\Delta\phi$", "phi jet_phi"),
        ("dr", "", r"$\Delta R$", "eta phi jet_eta jet_phi"),
        ("mass", "GeV", r"$m$", "mass"),
        ("charge", "", r"$q$", "charge"),
        ("is_electron", "", "electron", "pdg"),
        ("is_muon", "", "muon", "pdg"),
        ("is_photon", "", "photon", "pdg"),
        ("is_charged_hadron", "", "charged hadron", "pdg"),
        ("is_neutral_hadron", "", "neutral hadron", "pdg"),
        ("rest_e", "GeV", r"$E^*$", "eta phi mass rest"),
        ("rest_px", "GeV", r"$p_x^*$", "eta phi mass rest"),
        ("rest_py", "GeV", r"$p_y^*$", "eta phi mass rest"),
        ("rest_pz", "GeV", r"$p_z^*$", "eta phi mass rest"),
        ("puppi_weight", "", "Puppi weight", "branch"),
    )
    return {n: ConstituentFeature(n, u, t, frozenset(needs.split())) for n, u, t, needs in listed}


CONSTITUENT_FEATURES = _known()
"""Features by name.

is_photon counts CMS's electromagnetic hits of the forward calorimeter (pdgId 2), is_neutral_hadron the
hadronic ones (1); hadrons are those of any PDG id, not only 211 and 130.  rest_*: in the jet's rest frame,
turned to its principal axes (`constituent_frames`).  puppi_weight is there where the file stores it.
"""

CONSTITUENT_GROUPS: dict[str, tuple[str, ...]] = {
    "kinematics": ("log_pt", "log_e", "log_pt_rel", "log_e_rel", "deta", "dphi", "dr"),
    "particle_id": ("charge", *(n for n in CONSTITUENT_FEATURES if n.startswith("is_"))),
    "rest_frame": ("rest_e", "rest_px", "rest_py", "rest_pz"),
}
"""kinematics and particle_id are the inputs of the particle transformer (arXiv:2202.03772, table 2)."""


def expand_constituents(names: Iterable[str] | str) -> list[str]:
    """The names with groups ("kinematics") and patterns ("rest_*") spelt out, each once.

    Raises InputError, with the nearest name, for one that is neither these nor "branch:NAME".
    """
    found: dict[str, None] = {}
    for name in [names] if isinstance(names, str) else names:
        if name in CONSTITUENT_GROUPS:
            found.update(dict.fromkeys(CONSTITUENT_GROUPS[name]))
        elif name in CONSTITUENT_FEATURES or (name.startswith(BRANCH) and name != BRANCH):
            found[name] = None
        else:
            matching = [known for known in CONSTITUENT_FEATURES if fnmatchcase(known, name)]
            if not matching:
                known = [*CONSTITUENT_FEATURES, *CONSTITUENT_GROUPS]
                raise InputError(
                    f"no constituent feature {name!r}{catalogue.suggest(name, known)}; a branch of the "
                    f"candidates is named as '{BRANCH}dz'"
                )
            found.update(dict.fromkeys(matching))
    return list(found)


def describe_constituent(name: str) -> Description:
    """Name, unit and title of a constituent feature; a branch has no unit, and its name as title."""
    (name,) = expand_constituents([name])
    if name.startswith(BRANCH):
        return Description(name, title=name.removeprefix(BRANCH))
    known = CONSTITUENT_FEATURES[name]
    return Description(name, known.unit, known.title)


def prepare(
    rows: Any,
    names: Iterable[str] | str,
    *,
    length: int,
    pad_to: str | int = "length",
    at: Ints | slice = slice(None),
) -> Padded:
    """The `length` hardest constituents of each of `rows` (from objects.rows), features as expanded.

    They are padded to `length`, to a number, or with pad_to="longest" only to the most that a row has, at
    least to 1.  With `at` only some rows are prepared, a batch at a time; within `features.shared(rows)` what
    they have in common is read once.  Only the branches that the names need are read.  Raises InputError that
    names the branch and the event for what is missing or not finite, and the row for a jet without pt.
    """
    if length < 1:
        raise InputError(f"constituents: length {length!r}; it is how many of a jet are kept, 1 or more")
    wanted = expand_constituents(names)
    count = np.diff(constituents.of(rows).start)[at]
    width = _width(pad_to, length, longest=int(count.max(initial=1)))
    kept = np.minimum(count, min(length, width))
    x = np.zeros((len(kept), width, len(wanted)), np.float32)
    first = np.arange(len(kept)) * width
    _fill(rows, wanted, first=first, kept=kept, out=x.reshape(-1, len(wanted)), at=at)
    return Padded(x, np.arange(width) < kept[:, None], int((count - kept).sum()))


def _width(pad_to: str | int, length: int, *, longest: int) -> int:
    if isinstance(pad_to, int) and not isinstance(pad_to, bool) and pad_to > 0:
        return pad_to
    if pad_to not in {"length", "longest"}:
        raise InputError(f"pad_to {pad_to!r}; it is 'length', 'longest' or a number")
    return length if pad_to == "length" else max(1, min(longest, length))


def _fill(
    rows: Any, names: list[str], *, first: Any, kept: Any, out: NDArray[np.float32], at: Ints | slice
) -> None:
    """Feature j of the k-th of the `kept` hardest of row at[i] into out[first[i] + k, j]."""
    codes, particles, jets = _columns(rows, tuple(names))
    chosen = Jets(*(column[at] if len(column) else column for column in jets))
    fill(constituents.of(rows).start[:-1][at], first, kept, codes, particles, chosen, out)
    # NaN comes through both, and neither makes an array as isfinite does.
    if not np.isfinite(out.min(initial=0)) or not np.isfinite(out.max(initial=0)):
        bad = names[int(np.flatnonzero(~np.isfinite(out).all(axis=0))[0])]
        raise InputError(f"constituent feature {bad!r}: values that are not finite in float32")


@intermediate
def _columns(rows: Any, names: tuple[str, ...]) -> tuple[Ints, Particles, Jets]:
    """Codes of the features, and the columns of constituents and rows that they are made of."""
    found = constituents.of(rows)
    needs = frozenset[str]().union(*(_needs(name) for name in names))
    branches = [n for n in names if "branch" in _needs(n)]
    extra = np.empty((len(branches), len(found.pt)))
    for i, name in enumerate(branches):
        extra[i] = found.column("puppiWeight" if name == "puppi_weight" else name.removeprefix(BRANCH))
    # A branch has a code of its own: minus its place in `extra`, less one.
    codes = np.array([-1 - branches.index(n) if n in branches else CODES[n] for n in names], np.int64)
    return codes, _particles(rows, found, needs, extra), _jets(rows, needs)


def _needs(name: str) -> frozenset[str]:
    return frozenset({"branch"}) if name.startswith(BRANCH) else CONSTITUENT_FEATURES[name].needs


def _particles(rows: Any, found: Constituents, needs: frozenset[str], extra: Floats) -> Particles:
    """Columns of the constituents; empty where nothing needs them, so that their branch is not read."""
    nothing = np.empty(0)
    return Particles(
        found.pt,
        found.eta if "eta" in needs else nothing,
        found.phi if "phi" in needs else nothing,
        found.mass if "mass" in needs else nothing,
        found.charge if "charge" in needs else nothing,
        found.pdg if "pdg" in needs else np.empty(0, np.int64),
        _rest(rows) if "rest" in needs else np.empty((4, 0)),
        extra,
    )


def _jets(rows: Any, needs: frozenset[str]) -> Jets:
    nothing = np.empty(0)
    pt = eta = phi = e = nothing
    if needs & {"jet_pt", "jet_e"}:
        pt = _positive_pt(rows)
    if needs & {"jet_eta", "jet_e"}:
        eta = constituents.jet(rows, "eta")
    if "jet_phi" in needs:
        phi = constituents.jet(rows, "phi")
    if "jet_e" in needs:
        mass = constituents.jet(rows, "mass")
        e = np.hypot(pt * np.cosh(eta), np.maximum(mass, 0.0))
        constituents.of(rows).note("jets of negative mass taken as massless", int((mass < 0).sum()))
    return Jets(pt, eta, phi, e)


def _positive_pt(rows: Any) -> Floats:
    pt = constituents.jet(rows, "pt")
    bad = np.flatnonzero((pt <= 0) & (np.diff(constituents.of(rows).start) > 0))
    if bad.size:
        raise InputError(
            f"the jet in row {bad[0]} has pt {pt[bad[0]]:g}: nothing can be relative to it; cut it away"
        )
    return pt


@intermediate
def _rest(rows: Any) -> Floats:
    found = constituents.of(rows)
    out = np.empty((4, len(found.pt)))
    light = at_rest(found.start, found.pt, found.eta, found.phi, found.mass, out)
    found.note(f"jets boosted as if of mass {LIGHT:g} E, being lighter", light)
    return out
