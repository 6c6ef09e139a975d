"""FastJet on the constituents of each jet: N-subjettiness, soft drop, the two last kT subjets.

FastJet: M. Cacciari, G. P. Salam and G. Soyez, Eur. Phys. J. C 72 (2012) 1896 (arXiv:1111.6097), with the
contribs Nsubjettiness and RecursiveTools.  It is optional: the extra "jets" installs it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import awkward as ak
import numpy as np

from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.jet_momenta import Momenta, momenta
from hepdecorr.columnar.features.jet_stored import radius
from hepdecorr.columnar.features.sharing import intermediate
from hepdecorr.errors import InputError

logger = logging.getLogger(__name__)

# So large that a jet's constituents end in one jet again.
ALL = 10.0

# With its cluster sequence a jet of 60 constituents holds 25 kB: 50 MB a batch.
BATCH = 2048

Z_CUT = 0.1


@intermediate
def njettiness(rows: Any) -> Floats:
    """tau_1 to tau_4 from the constituents, shape (rows, 4); see `jet_prongs`."""
    return njettiness_of(momenta(rows), radius=radius(rows))


@intermediate
def groomed_mass(rows: Any) -> Floats:
    """Soft-drop mass from the constituents [GeV]; see `jet_splittings.softdrop_mass`."""
    return groomed_mass_of(momenta(rows), radius=radius(rows))


@intermediate
def kt_subjets(rows: Any) -> Floats:
    """Four-momenta of the two exclusive kT subjets, shape (rows, 2, 4): px, py, pz, e [GeV].

    Zeros for jets with fewer than two constituents.
    """
    return kt_subjets_of(momenta(rows))


def njettiness_of(parts: Momenta, *, radius: float) -> Floats:
    """tau_1 to tau_4 from flat momenta, shape (jets, 4); tau_N is 0 for up to N constituents."""

    def some(jets: ak.Array) -> Floats:
        sequence = _cluster(jets, "cambridge_algorithm")
        found = sequence.njettiness(
            measure_definition="NormalizedMeasure",
            axes_definition="OnePass_KT_Axes",
            njets=[1, 2, 3, 4],
            beta=1.0,
            R0=radius,
        )
        # The buffer belongs to the sequence, which is gone at the end of this function.
        return np.array(found, dtype=np.float64, copy=True)

    taus = _each(parts, some, least=1, shape=(4,))
    few = np.diff(parts.start)[:, np.newaxis] <= np.arange(1, 5)
    return np.where(few, 0.0, np.maximum(taus, 0.0))


def groomed_mass_of(parts: Momenta, *, radius: float) -> Floats:
    """Soft-drop mass from flat momenta, shape (jets,) [GeV]; 0 without constituents."""

    def some(jets: ak.Array) -> Floats:
        sequence = _cluster(jets, "cambridge_algorithm")
        found = sequence.exclusive_jets_softdrop_grooming(
            njets=1, beta=0.0, symmetry_cut=Z_CUT, symmetry_measure="scalar_z", R0=radius
        )
        return np.array(found["msoftdrop"], dtype=np.float64, copy=True)

    # FastJet gives a negative square of the mass, which is rounding, as a negative mass.
    return np.maximum(_each(parts, some, least=1, shape=()), 0.0)


def kt_subjets_of(parts: Momenta) -> Floats:
    """The two exclusive kT subjets from flat momenta, shape (jets, 2, 4)."""

    def some(jets: ak.Array) -> Floats:
        sequence = _cluster(jets, "kt_algorithm")
        # `exclusive_jets` gives the same, but warns at every call, whatever the algorithm.
        found = sequence.exclusive_subjets(sequence.inclusive_jets(), nsub=2)
        flat = [np.asarray(ak.flatten(found[name])).reshape(-1, 2) for name in ("px", "py", "pz", "E")]
        return np.stack(flat, axis=-1).astype(np.float64)

    return _each(parts, some, least=2, shape=(2, 4))


def _each(
    parts: Momenta, some: Callable[[ak.Array], Floats], *, least: int, shape: tuple[int, ...]
) -> Floats:
    """`some` of all jets with `least` constituents, in batches that bound the memory; 0 for the others."""
    counts = np.diff(parts.start)
    out = np.zeros((len(counts), *shape))
    places = np.flatnonzero(counts >= least)
    for first in range(0, len(places), BATCH):
        here = places[first : first + BATCH]
        found = some(_jets(parts, here))
        if found.shape != (len(here), *shape):
            raise InputError(
                f"FastJet gave an array of shape {found.shape} for {len(here)} jets; the constituents of one "
                f"jet lie too far apart to belong together: check the links from jets to constituents"
            )
        out[here] = found
    return out


def _jets(parts: Momenta, places: Ints) -> ak.Array:
    """The jets at these places as FastJet wants them."""
    counts = np.diff(parts.start)
    wanted = np.zeros(len(counts), dtype=bool)
    wanted[places] = True
    flat = np.repeat(wanted, counts)
    columns = {"px": parts.x, "py": parts.y, "pz": parts.z, "E": parts.e}
    record = ak.zip({name: values[flat] for name, values in columns.items()}, with_name="Momentum4D")
    return ak.unflatten(record, counts[places])


def _cluster(jets: ak.Array, algorithm: str) -> Any:
    fastjet = _fastjet()
    return fastjet.ClusterSequence(jets, fastjet.JetDefinition(getattr(fastjet, algorithm), ALL))


@functools.cache
def _fastjet() -> Any:
    try:
        import fastjet
        from fastjet import _swig
    except ImportError as err:
        raise InputError("this needs FastJet, which is not installed; pip install hepdecorr[jets]") from err
    # Its banner goes to the standard output of the process, where a program's results are.
    _swig.ClusterSequence.set_fastjet_banner_stream(None)
    logger.info("clustering with FastJet %s; cite arXiv:1111.6097", fastjet.__version__)
    return fastjet
