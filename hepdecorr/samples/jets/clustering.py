"""Jets: anti-kT, softdrop and N-subjettiness, by fastjet; a jet is the sum of its constituents."""

from __future__ import annotations

import functools
import logging
import warnings
from types import ModuleType
from typing import Any, NamedTuple, Self

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepdecorr.errors import InputError
from hepdecorr.samples.jets.detector import Candidates
from hepdecorr.samples.jets.generation import Floats

logger = logging.getLogger(__name__)

ETA_MAX = 2.0
SOFTDROP_BETA, SOFTDROP_ZCUT = 0.0, 0.1
SUBJETS = (1, 2, 3, 4)
# So large that one jet takes all that it is given.
_ALL = 10.0


class Jets(NamedTuple):
    """Jets in order of event and falling pT.

    p4 (n, 4) and pt, eta, phi, mass: sums of their constituents, GeV; multiplicity: how many these are;
    constituents: their rows in the Candidates, jet after jet, by falling pT in each.
    """

    event: NDArray[np.int64]
    p4: Floats
    pt: Floats
    eta: Floats
    phi: Floats
    mass: Floats
    multiplicity: NDArray[np.int64]
    constituents: NDArray[np.int64]

    def select(self, keep: NDArray[np.bool_]) -> Self:
        """The jets of a mask."""
        constituents = self.constituents[np.repeat(keep, self.multiplicity)]
        kept = {name: getattr(self, name)[keep] for name in self._fields[:-1]}
        return type(self)(**kept, constituents=constituents)


@functools.cache
def fastjet_module() -> ModuleType:
    """The module fastjet, its banner silenced.  InputError where it is not installed."""
    try:
        with warnings.catch_warnings():
            # Its SWIG types have no __module__, of which Python warns.
            warnings.simplefilter("ignore", DeprecationWarning)
            import fastjet
            from fastjet import _swig
    except ImportError as error:
        raise InputError("FastJet is not installed: pip install 'hepdecorr[samples]' (or fastjet)") from error
    # It goes to the standard output of the process, across the progress bar.
    _swig.ClusterSequence.set_fastjet_banner_stream(None)
    logger.info("clustering with FastJet %s; cite arXiv:1111.6097", fastjet.__version__)
    return fastjet  # type: ignore[no-any-return]


def cluster(
    candidates: Candidates, *, events: int, radius: float, pt_min: float, eta_max: float = ETA_MAX
) -> Jets:
    """The anti-kT jets of `events` events with pT > pt_min (GeV) and |eta| < eta_max."""
    fastjet = fastjet_module()
    p4 = candidates.p4()
    counts = np.bincount(candidates.event, minlength=events)
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    sequence = fastjet.ClusterSequence(_vectors(p4, counts), definition)
    # A little lower: fastjet's sum may differ from ours in its last bit.
    members = sequence.constituent_index(min_pt=pt_min * (1 - 1e-6))
    count = np.asarray(ak.flatten(ak.num(members, axis=2)), dtype=np.int64)
    event = np.repeat(np.arange(events), np.asarray(ak.num(members)))
    first = np.cumsum(counts) - counts
    rows = np.asarray(ak.flatten(members, axis=None), dtype=np.int64) + np.repeat(first[event], count)
    jets = _ordered(event, count, rows, p4=p4, candidates=candidates)
    # In the precision that is stored, or rounding puts a stored value below the cut.
    return jets.select((jets.pt.astype(np.float32) > np.float32(pt_min)) & (np.abs(jets.eta) < eta_max))


def _ordered(
    event: NDArray[np.int64],
    count: NDArray[np.int64],
    rows: NDArray[np.int64],
    *,
    p4: Floats,
    candidates: Candidates,
) -> Jets:
    jet = np.repeat(np.arange(len(count)), count)
    total: Floats = np.column_stack(
        [np.bincount(jet, weights=p4[rows, i], minlength=len(count)) for i in range(4)]
    ).astype(np.float64, copy=False)
    pt = np.hypot(total[:, 0], total[:, 1])
    order = np.lexsort((-pt, event))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    rows = rows[np.lexsort((-candidates.pt[rows], place[jet]))]
    total, pt = total[order], pt[order]
    return Jets(
        event=event[order],
        p4=total,
        pt=pt,
        eta=np.arcsinh(total[:, 2] / pt),
        phi=np.arctan2(total[:, 1], total[:, 0]),
        mass=np.sqrt(np.maximum(total[:, 3] ** 2 - (total[:, :3] ** 2).sum(axis=1), 0.0)),
        multiplicity=count[order],
        constituents=rows,
    )


class Substructure(NamedTuple):
    """softdrop: mass after softdrop (beta = 0, z_cut = 0.1), GeV, shape (jets,); tau: tau_1 to tau_4,
    shape (jets, 4), with beta = 1, normalised by sum(pT) R, at minimised axes from exclusive kT."""

    softdrop: Floats
    tau: Floats


def substructure(jets: Jets, candidates: Candidates, *, radius: float) -> Substructure:
    """Softdrop mass (arXiv:1402.2657) and N-subjettiness (arXiv:1011.2268) of every jet."""
    if not len(jets.event):
        return Substructure(np.zeros(0), np.zeros((0, len(SUBJETS))))
    fastjet = fastjet_module()
    constituents = _vectors(candidates.take(jets.constituents).p4(), jets.multiplicity)
    definition = fastjet.JetDefinition(fastjet.cambridge_algorithm, _ALL)
    sequence = fastjet.ClusterSequence(constituents, definition)
    groomed = sequence.exclusive_jets_softdrop_grooming(
        njets=1, beta=SOFTDROP_BETA, symmetry_cut=SOFTDROP_ZCUT, R0=radius
    )
    tau = sequence.njettiness(njets=list(SUBJETS), R0=radius, beta=1.0)
    # Copies: the memory is the ClusterSequence's and goes with it.
    return Substructure(
        # FastJet gives a square of the mass that rounding makes negative as a negative mass.
        softdrop=np.maximum(np.asarray(ak.flatten(groomed.msoftdrop, axis=None), dtype=np.float64), 0.0),
        tau=np.array(ak.to_numpy(tau), dtype=np.float64, copy=True),
    )


def _vectors(p4: Floats, counts: NDArray[np.int64]) -> Any:
    names = ("px", "py", "pz", "E")
    flat = ak.zip({name: p4[:, i] for i, name in enumerate(names)}, with_name="Momentum4D")
    return ak.unflatten(flat, counts)
