"""Compiled loops from links to ordered constituents; indices come in checked or are checked here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.compiled import compiled

# What `count` found wrong.
FINE, BAD_JET, BAD_CANDIDATE = 0, 1, 2

NO_JET = -1  # what jetIdx holds for candidates of jets that were not stored


@compiled
def count(
    link_start: Ints, jet: Ints, candidate: Ints, jet_start: Ints, table_start: Ints, counts: Ints
) -> tuple[int, int, int]:
    """Links of each jet into `counts` (flat jets); what is wrong, with which link, and links to no jet."""
    lost = 0
    for i in range(len(link_start) - 1):
        jets, candidates = jet_start[i + 1] - jet_start[i], table_start[i + 1] - table_start[i]
        for k in range(link_start[i], link_start[i + 1]):
            if jet[k] == NO_JET:
                lost += 1
                continue
            if jet[k] < 0 or jet[k] >= jets:
                return BAD_JET, k, lost
            if candidate[k] < 0 or candidate[k] >= candidates:
                return BAD_CANDIDATE, k, lost
            counts[jet_start[i] + jet[k]] += 1
    return FINE, 0, lost


@compiled
def group(
    link_start: Ints, jet: Ints, candidate: Ints, jet_start: Ints, table_start: Ints, cursor: Ints, out: Ints
) -> None:
    """Flat places in the table, by jet and in the order of the links; `cursor` is where each jet's begin."""
    for i in range(len(link_start) - 1):
        for k in range(link_start[i], link_start[i + 1]):
            if jet[k] != NO_JET:
                j = jet_start[i] + jet[k]
                out[cursor[j]] = table_start[i] + candidate[k]
                cursor[j] += 1


@compiled
def order(
    jets: Ints, first: Ints, grouped: Ints, pt: Floats, weight: Floats, start: Ints, place: Ints, out: Floats,
    dropped: Ints,
) -> int:  # fmt: skip
    """Constituents of each of `jets` by falling pt, the links' order where equal.

    Fills start (jets + 1), place (in the table) and out (pt times weight, where there are weights); counts
    what has no pt or no weight in dropped.  Returns how many there are, or -1 - place of one whose pt or
    weight is negative or not finite.
    """
    weighted = len(weight) > 0
    longest = 0
    for i in range(len(jets)):
        longest = max(longest, first[jets[i] + 1] - first[jets[i]])
    own, where = np.empty(longest), np.empty(longest, np.int64)
    end: int = 0
    for i in range(len(jets)):
        n, falling = 0, True
        for k in range(first[jets[i]], first[jets[i] + 1]):
            c = grouped[k]
            w = weight[c] if weighted else 1.0
            p = pt[c] * w
            # written so that NaN is caught too
            if not (pt[c] >= 0.0 and w >= 0.0 and p < np.inf):
                return -1 - int(c)
            if pt[c] == 0.0:
                dropped[0] += 1
            elif p == 0.0:
                dropped[1] += 1
            else:
                falling = falling and (n == 0 or p <= own[n - 1])
                own[n], where[n] = p, c
                n += 1
        _place(own[:n], where, falling, place[end:], out[end:])
        end += n
        start[i + 1] = end
    return end


@compiled
def _place(pt: Floats, where: Ints, falling: bool, place: Ints, out: Floats) -> None:
    for k in range(len(pt)):
        rank = k
        if not falling:
            # Comparing all with all takes vector instructions: for a jet it beats what sorts in n log n.
            rank = 0
            for j in range(len(pt)):
                rank += 1 if pt[j] > pt[k] else 0
            for j in range(k):
                rank += 1 if pt[j] == pt[k] else 0
        out[rank], place[rank] = pt[k], where[k]


@compiled
def take(values: NDArray[Any], place: Ints, out: NDArray[Any]) -> int:
    """values[place] into out; returns the first k whose value is not finite, or -1."""
    bad = -1
    for k in range(len(place)):
        value = values[place[k]]
        out[k] = value
        if not np.isfinite(value) and bad < 0:
            bad = k
    return bad


@compiled
def charges(pdg: Ints, out: Floats) -> None:
    """Electric charge of each PDG id, in units of e."""
    for k in range(len(pdg)):
        out[k] = charge(pdg[k])


@compiled
def charge(pdg: int) -> float:
    """Charge of a lepton, W or hadron by the PDG's numbering scheme (Phys. Rev. D 110 (2024) 030001, 45).

    0 for all else, 1 and 2 among it: in tables of candidates these are CMS's forward calorimeter hits.
    """
    a = abs(pdg)
    sign = 1.0 if pdg > 0 else -1.0
    if a in (11, 13, 15):
        return -sign
    if a == 24:
        return sign
    if a <= 100 or a >= 1000000:
        return 0.0
    q1, q2, q3 = a // 1000 % 10, a // 100 % 10, a // 10 % 10
    # in thirds: 2 for up-type (even), -1 for down-type quarks
    c2, c3 = (2 if q2 % 2 == 0 else -1), (2 if q3 % 2 == 0 else -1)
    if q1 == 0:
        # A positive id has the heavier quark as it is if up-type, as its antiquark if down-type.
        return sign * (c2 - c3 if q2 % 2 == 0 else c3 - c2) / 3.0
    c1 = 2 if q1 % 2 == 0 else -1
    return sign * (c1 + c2 + c3) / 3.0
