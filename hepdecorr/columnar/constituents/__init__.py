"""Constituents of jets: what they are, in which order, and whether Puppi weighs them.

    rows = objects.rows(events, {"collection": "FatJet"})
    found = constituents.of(rows)
    found.pt[found.start[0] : found.start[1]]

PFNano (`FatJetPFCands` -> `PFCands`), central NanoAOD v15 (`FatJetPFCand` -> `PFCand`) and the same for other
collections (`JetPFCands`), from the links' jetIdx alone: FatJet_nConstituents may be wrong or not there, and
links in any order.  pt and mass are "weighted" or "raw", see `conventions`.

What may be odd, and what becomes of it: a link whose jetIdx is -1 belongs to a jet that was not stored and
is left out; candidates with pt 0, or Puppi weight 0, are left out; a negative mass (NanoAOD's way to write
a negative mass squared) becomes 0.  All three are counted (`notes`), and so are jets without constituents,
which stay.  Other links out of range, NaN and negative pt are InputErrors, and so is a collection that was
filtered or sorted before its rows were made: its layout shows it, or a constituent that is not in its jet.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar import objects
from hepdecorr.columnar.constituents import linking
from hepdecorr.columnar.constituents.layouts import WEIGHT, convention, find, has, need
from hepdecorr.columnar.features import branches
from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.sharing import intermediate
from hepdecorr.errors import InputError

__all__ = ["Constituents", "closure", "conventions", "jet", "notes", "of"]


class Constituents:
    """The constituents of each row, flat: row i holds start[i] to start[i + 1], by falling pt.

    `start` has shape (rows + 1,), `pt` comes with it, and the other columns are read when they are asked for.
    `convention` says whether pt and mass are "raw" or "weighted", and `counts` what was left out or mended
    until now.  Whoever takes an array must not write into it.
    """

    def __init__(self, rows: Any) -> None:
        spec = objects.spec(rows) or {}
        self._events = objects.source(rows)
        self.layout = need(self._events, str(spec["collection"]))
        self.convention, self._multiply = convention(self._events, self.layout, spec)
        for name in (self.layout.collection, self.layout.table):
            self._check_whole(name)
        self.counts: dict[str, int] = {}
        self._table_start, pt = branches.flat(self._events, f"{self.layout.table}.pt")
        self.start, self._place, self.pt = self._ordered(rows, pt.astype(np.float64))
        self._check_near(rows, float(spec.get("radius") or objects.RADII.get(self.layout.collection, 1.0)))

    @cached_property
    def eta(self) -> Floats:
        """Pseudorapidity, float64."""
        return self.column("eta")

    @cached_property
    def phi(self) -> Floats:
        """Azimuth, float64."""
        return self.column("phi")

    @cached_property
    def mass(self) -> Floats:
        """Mass in GeV, weighted as pt is, never negative; float64."""
        mass = self.column("mass")
        self.note("negative masses set to 0", int(np.count_nonzero(mass < 0)))
        np.maximum(mass, 0.0, out=mass)
        if self._multiply:
            mass *= self.column(WEIGHT)
        return mass

    @cached_property
    def charge(self) -> Floats:
        """Charge in units of e, from the branch where there is one, else from the PDG id; float64."""
        if has(self._events, self.layout.table, "charge"):
            return self.column("charge")
        out = np.empty(len(self.pdg))
        linking.charges(self.pdg, out)
        return out

    @cached_property
    def pdg(self) -> Ints:
        """PDG id, int64."""
        return self._taken("pdgId", np.empty(len(self._place), np.int64))

    def column(self, field: str) -> Floats:
        """Any branch of the candidates as it is stored, float64; InputError where it is not finite."""
        return self._taken(field, np.empty(len(self._place)))

    def _taken(self, field: str, out: NDArray[Any]) -> NDArray[Any]:
        values = self._stored(field)
        bad = linking.take(values, self._place, out)
        if bad >= 0:
            place = int(self._place[bad])
            raise InputError(f"branch '{self.layout.table}.{field}': {values[place]} {self._whose(place)}")
        return out

    def _stored(self, field: str) -> NDArray[Any]:
        """A branch of the whole table, not looked at; InputError where its lists are not those of pt."""
        name = f"{self.layout.table}.{field}"
        start, values = branches.flat(self._events, name)
        if not np.array_equal(start, self._table_start):
            raise InputError(f"branch {name!r} has other lengths than '{self.layout.table}.pt'")
        return values

    def _check_whole(self, name: str) -> None:
        """InputError where entries were picked after reading: links count in the collection as it was."""
        if name not in self._events.fields:
            return
        layout = branches.strip(self._events.layout[name], name)
        if layout.is_list and layout.content.is_indexed:
            raise InputError(
                f"collection {name!r} was filtered or put in another order after it was read, so that the "
                f"links in {self.layout.link!r} do not fit it; select among the rows instead"
            )

    def _check_near(self, rows: Any, radius: float) -> None:
        """InputError where a jet's hardest constituent is not in it: the links are those of another jet.

        Jets that were sorted anew and written back into the events look whole, and only this tells.  No
        clustering puts a constituent two radii from the axis.
        """
        held = np.flatnonzero(np.diff(self.start))
        hardest = self._place[self.start[held]]
        deta, dphi = (self._stored(field)[hardest] - jet(rows, field)[held] for field in ("eta", "phi"))
        distance = np.hypot(deta, np.remainder(dphi + np.pi, 2 * np.pi) - np.pi)
        if (far := np.flatnonzero(distance > 2 * radius)).size:
            event = int(_row(rows, objects.ROW_EVENT)[held[far[0]]])
            raise InputError(
                f"collection {self.layout.collection!r}: the hardest constituent of a jet is "
                f"{distance[far[0]]:.2f} from its axis {self._event(event)}, more than twice the radius "
                f"{radius:g}.  Were the jets sorted or picked after they were read?  The links in "
                f"{self.layout.link!r} count in the file's order: select among rows or scores instead"
            )

    def _ordered(self, rows: Any, pt: Floats) -> tuple[Ints, Ints, Floats]:
        jet_start = _offsets(branches.counts(self._events, self.layout.collection))
        first, grouped = self._grouped(jet_start)
        jets = jet_start[_row(rows, objects.ROW_EVENT)] + _row(rows, objects.ROW_OBJECT)
        most = int((first[jets + 1] - first[jets]).sum())
        start, place, out = np.zeros(len(jets) + 1, np.int64), np.empty(most, np.int64), np.empty(most)
        dropped = np.zeros(2, np.int64)
        weight = self._stored(WEIGHT).astype(np.float64) if self._multiply else np.empty(0)
        end = linking.order(jets, first, grouped, pt, weight, start, place, out, dropped)
        if end < 0:
            raise self._bad_pt(-1 - end, pt, weight)
        self.note("constituents with pt 0 left out", int(dropped[0]))
        self.note("constituents with Puppi weight 0 left out", int(dropped[1]))
        return start, place[:end], out[:end]

    def _grouped(self, jet_start: Ints) -> tuple[Ints, Ints]:
        """Places in the table of each jet's candidates, flat, and where each jet's begin (jets + 1)."""
        layout = self.layout
        start, jet = branches.flat(self._events, f"{layout.link}.jetIdx")
        own, candidate = branches.flat(self._events, f"{layout.link}.{layout.pointer}")
        if not np.array_equal(own, start):
            raise InputError(
                f"branch '{layout.link}.{layout.pointer}' has other lengths than '{layout.link}.jetIdx'"
            )
        jet, candidate = jet.astype(np.int64), candidate.astype(np.int64)
        counts = np.zeros(jet_start[-1], np.int64)
        wrong, link, lost = linking.count(start, jet, candidate, jet_start, self._table_start, counts)
        if wrong != linking.FINE:
            raise self._bad_link(wrong, link, start, jet, candidate, jet_start)
        self.note("links to jets that are not stored left out", lost)
        first = _offsets(counts)
        grouped = np.empty(first[-1], np.int64)
        linking.group(start, jet, candidate, jet_start, self._table_start, first[:-1].copy(), grouped)
        return first, grouped

    def _bad_link(
        self, wrong: int, link: int, start: Ints, jet: Ints, candidate: Ints, jet_start: Ints
    ) -> InputError:
        event = int(np.searchsorted(start, link, side="right")) - 1
        field, value, target = "jetIdx", jet[link], self.layout.collection
        there = jet_start[event + 1] - jet_start[event]
        if wrong == linking.BAD_CANDIDATE:
            field, value, target = self.layout.pointer, candidate[link], self.layout.table
            there = self._table_start[event + 1] - self._table_start[event]
        return InputError(
            f"branch '{self.layout.link}.{field}' points at {target} {value} {self._event(event)}, "
            f"which has {there}; the links do not belong to the collection as it is now: mend the file, "
            f"or drop the event"
        )

    def _bad_pt(self, place: int, pt: Floats, weight: Floats) -> InputError:
        field, value = "pt", pt[place]
        if 0 <= value < np.inf:
            field, value = WEIGHT, weight[place]
        return InputError(f"branch '{self.layout.table}.{field}': {value:g} {self._whose(place)}")

    def _whose(self, place: int) -> str:
        event = int(np.searchsorted(self._table_start, place, side="right")) - 1
        return f"for candidate {place - self._table_start[event]} {self._event(event)}"

    def _event(self, event: int) -> str:
        ids = [n for n in ("run", "luminosityBlock", "event") if n in self._events.fields]
        named = ", ".join(f"{n} {self._events[n][event]}" for n in ids)
        return f"in event {event} of the chunk" + (f" ({named})" if named else "")

    def note(self, what: str, count: int) -> None:
        """Count something odd among these, for `notes`; nothing where there was none."""
        if count:
            self.counts[what] = count


@intermediate
def of(rows: Any) -> Constituents:
    """The constituents of each of `rows` (from objects.rows), hardest first.

    Raises InputError, which names branch and event, where the file has none, where a link points outside of
    its event, and for pt that is negative or not a number.
    """
    return Constituents(rows)


def conventions(events: Any, spec: Mapping[str, Any] | None) -> dict[str, str]:
    """What a tagger on these events (or rows) is trained on: the collection, "raw" or "weighted" candidates.

    Without "candidates" where the file has no constituents of the collection, and empty without a spec.
    """
    if spec is None:
        return {}
    if objects.spec(events) is not None:
        events = objects.source(events)
    found = {"collection": str(spec["collection"])}
    layout = find(events, found["collection"])
    if layout is not None:
        found["candidates"] = convention(events, layout, spec)[0]
    return found


def jet(rows: Any, field: str) -> Floats:
    """A branch of the row's own jet ("pt", "eta", ...), shape (rows,), float64 and finite."""
    name = f"{(objects.spec(rows) or {}).get('collection')}.{field}"
    values = branches.per_event(rows, name)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(f"branch {name!r}: {values[row]} in row {row}")
    return values


def closure(rows: Any) -> Floats:
    """|vector sum of the constituents' pt| over the jet's raw pt, shape (rows,); 0 without constituents.

    Raw is pt (1 - rawFactor), or pt where there is no rawFactor.  About 1 when the convention is right; with
    Puppi weights applied once too often or not at all it is off by percents.
    """
    found = of(rows)
    row = np.repeat(np.arange(len(rows)), np.diff(found.start))
    x, y = (np.bincount(row, found.pt * f(found.phi), len(rows)) for f in (np.cos, np.sin))
    raw = jet(rows, "pt")
    if has(objects.source(rows), found.layout.collection, "rawFactor"):
        raw = raw * (1.0 - jet(rows, "rawFactor"))
    return np.divide(np.hypot(x, y), raw, out=np.zeros(len(rows)), where=raw > 0)


def notes(rows: Any) -> dict[str, int]:
    """How often what was odd, for the cutflow: only what there was; empty for files without constituents.

    Call it where the features were computed, within the same `features.shared(rows)`: masses are looked at
    only when a feature needs them.
    """
    spec = objects.spec(rows)
    if spec is None or find(objects.source(rows), str(spec["collection"])) is None:
        return {}
    found = of(rows)
    empty = int((np.diff(found.start) == 0).sum())
    return ({"jets without constituents": empty} if empty else {}) | found.counts


def _row(rows: Any, field: str) -> Ints:
    return branches.numbers(rows[field], length=len(rows)).astype(np.int64)


def _offsets(counts: NDArray[Any]) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
