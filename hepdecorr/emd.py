"""Energy mover's distance between jets, exact, for many pairs at once.

    emd(first, second)                     of four-momenta (n, L, 4) and (n, M, 4), on the plane of eta, phi
    emd(first, second, ground="sphere")    by opening angles, for jets in their rest frame
    distance(Points(pt, places), ...)      of weights and places that are known already

Komiske, Metodiev, Thaler, Phys. Rev. Lett. 123 (2019) 041801 (1902.02346), eqs. 1 and 2: the least work that
makes one jet the other, where moving the energy f from i to j is f theta_ij / R and the rest is created,

    EMD(E, E') = min_{f >= 0} sum_ij f_ij theta_ij / R + |sum_i E_i - sum_j E'_j|,
    sum_j f_ij <= E_i,  sum_i f_ij <= E'_j,  sum_ij f_ij = min(sum_i E_i, sum_j E'_j).

The flow is found by successive shortest augmenting paths with potentials (Ahuja, Magnanti, Orlin, Network
Flows, 1993, section 9.7), one pair after another in compiled code.  Neither a sample nor a regularisation
enters: the answer is that of the linear program to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepdecorr.catalogue import suggest
from hepdecorr.compiled import compiled
from hepdecorr.errors import InputError

Floats = NDArray[np.float64]

GROUNDS = ("plane", "sphere")
MOMENTA = (
    "input_momenta",
    "output_momenta",
)  # outputs of an autoencoder's graph, (n, L, 4): before and after
AT_REST = "rest"  # the boost of a frame that leaves no beam; the one that is taken where none is given
_ROUNDING = 1e-13  # of what a jet weighs: no more than this stays where it is for lack of digits
_FIRST, _NOWHERE = -1, -2
_SEARCHES = 100  # for each constituent; jets need one or two, the worst made ones three


class Points(NamedTuple):
    """What many jets are made of: weights (n, L), zero where there is nothing, and places (n, L, d).

    Two numbers are a place on the plane, (eta, phi), phi of any period; three a direction on the sphere, of
    any length but zero.
    """

    weight: Floats
    place: Floats


def grounds(method: Mapping[str, Any]) -> dict[str, str]:
    """The scores that are distances between input and output of an autoencoder, and the ground of each.

    'emd' is that for the frame in which the autoencoder, `method` of a card, sees its jets: the sphere at
    rest, the plane where the beam is where it was.  The others take theirs whatever the frame.
    """
    frame = method.get("frame")
    boost = frame.get("boost", AT_REST) if isinstance(frame, Mapping) else AT_REST
    return {
        "emd": "sphere" if boost == AT_REST else "plane",
        "emd_plane": "plane",
        "emd_sphere": "sphere",
    }


def emd(
    first: ArrayLike, second: ArrayLike, *, ground: str = "plane", radius: float = 1.0, norm: bool = True
) -> Floats:
    """EMD of each pair of jets, (n,), from four-momenta (E, px, py, pz) in any unit.

    first: (n, L, 4), second: (n, M, 4); a constituent of no momentum is none, and may stand anywhere.
    ground: 'plane' takes pt and distances in eta and phi, for jets in the laboratory or boosted along the
    beam; 'sphere' takes |p|, the energy of a massless constituent, and opening angles, for jets in their rest
    frame, where there is no beam.  E itself is not read: what a decoder gives for it may be negative.  norm:
    both jets weigh 1, as in an anomaly score (Cheng et al. 2007.01850); without, eq. 1 in the unit of the
    momenta.  Of a jet without constituents the whole of the other is created: 1 where norm, 0 for two.
    """
    if ground not in GROUNDS:
        raise InputError(f"emd: no ground {ground!r}{suggest(ground, GROUNDS)}")
    made = on_plane if ground == "plane" else on_sphere
    return distance(made(first), made(second), radius=radius, norm=norm)


def on_plane(momenta: ArrayLike) -> Points:
    """pt at (eta, phi) of four-momenta (n, L, 4)."""
    _, px, py, pz = _components(momenta)
    pt = np.hypot(px, py)
    there = pt > 0
    eta = np.arcsinh(np.divide(pz, pt, out=np.zeros_like(pt), where=there))
    return Points(pt, np.stack([eta, np.arctan2(py, px)], axis=2))


def on_sphere(momenta: ArrayLike) -> Points:
    """|p| at its direction of four-momenta (n, L, 4)."""
    _, *momentum = _components(momenta)
    place = np.stack(momentum, axis=2)
    return Points(np.sqrt(np.square(place).sum(2)), place)


def distance(first: Points, second: Points, *, radius: float = 1.0, norm: bool = True) -> Floats:
    """EMD of each pair of jets, (n,); see `emd`."""
    if not 0 < radius < np.inf:
        raise InputError(f"emd: radius {radius:g}; it must be positive")
    pairs = [_checked(one, which) for one, which in ((first, "first"), (second, "second"))]
    if pairs[0].place.shape[::2] != pairs[1].place.shape[::2]:
        shapes = " and ".join(str(one.place.shape) for one in pairs)
        raise InputError(f"emd: places {shapes}; both need as many jets, in as many dimensions")
    found = _pairs(*pairs[0], *pairs[1], bool(norm))
    moved, created = found[:, 0], found[:, 1]
    if not np.isfinite(moved).all():
        raise InputError(f"emd: no flow found for pair {int(np.argmin(np.isfinite(moved)))}")
    return np.asarray(moved / radius + created)


def _components(momenta: ArrayLike) -> Floats:
    values = np.asarray(momenta, dtype=np.float64)
    if values.ndim != 3 or values.shape[2] != 4:
        raise InputError(f"emd: momenta of shape {values.shape}; give (jets, constituents, 4), E first")
    _refuse(values, "momenta")
    return np.moveaxis(values, 2, 0)


def _checked(points: Points, which: str) -> Points:
    weight, place = (np.ascontiguousarray(one, dtype=np.float64) for one in points)
    if weight.ndim != 2 or place.shape not in {(*weight.shape, 2), (*weight.shape, 3)}:
        raise InputError(
            f"emd: {which} weights of shape {weight.shape} at places {place.shape}; give (jets, "
            "constituents) and the same with 2 numbers, eta and phi, or 3, a direction"
        )
    _refuse(weight, f"{which} weights")
    _refuse(place, f"{which} places")
    if (weight < 0).any():
        raise InputError(f"emd: {which} weights are negative in {int((weight < 0).any(1).sum())} jets")
    if place.shape[2] == 3:
        length = np.sqrt(np.square(place).sum(2))
        if bad := int(np.count_nonzero((length == 0) & (weight > 0))):
            raise InputError(f"emd: {which} places have no direction for {bad} constituents")
        place = place / np.where(length > 0, length, 1)[:, :, None]
    else:
        place = np.stack([place[..., 0], place[..., 1] % (2 * np.pi)], axis=2)
    return Points(weight, place)


def _refuse(values: Floats, name: str) -> None:
    if bad := int((~np.isfinite(values)).any(axis=tuple(range(1, values.ndim))).sum()):
        raise InputError(f"emd: {name} are not finite in {bad} of {len(values)} jets")


@compiled
def _pairs(weight: Any, place: Any, other_weight: Any, other_place: Any, norm: bool) -> Any:
    """Of each pair the energy times distance that is moved, and the energy that is created; (n, 2)."""
    found = np.zeros((len(weight), 2))
    for jet in range(len(weight)):
        here, there = np.flatnonzero(weight[jet]), np.flatnonzero(other_weight[jet])
        a, b = weight[jet][here], other_weight[jet][there]
        total, other = a.sum(), b.sum()
        if norm:
            # Of what weighs 1 or nothing, whatever rounding says of the sum.
            total, other = 1.0 if len(a) else 0.0, 1.0 if len(b) else 0.0
            a, b = a / a.sum(), b / b.sum()
        found[jet, 1] = abs(total - other)
        if len(a) == 0 or len(b) == 0:
            continue
        cost = np.empty((len(a), len(b)))
        for i in range(len(a)):
            for j in range(len(b)):
                cost[i, j] = _apart(place[jet, here[i]], other_place[jet, there[j]])
        # The lighter jet moves as a whole and fills a part of the other.
        found[jet, 0] = _work(cost, a, b) if total <= other else _work(cost.T.copy(), b, a)
    return found


@compiled
def _apart(a: Any, b: Any) -> Any:
    """Distance on the plane, phi from 0 to 2 pi, or the angle between two directions of unit length."""
    if len(a) == 3:
        # From the chord: the arc cosine has no digits left for what is close.
        chord = np.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2)
        return 2 * np.arcsin(min(chord / 2, 1.0))
    phi = abs(a[1] - b[1])
    phi = min(phi, 2 * np.pi - phi)
    return np.sqrt((a[0] - b[0]) ** 2 + phi * phi)


class _Search(NamedTuple):
    """What one search after another writes to."""

    reach: Any  # (m,) how far it is to a column
    row_of: Any  # (m,) the row before it
    left: Any  # (m,) the columns, those first that have not been passed
    start: Any  # (n,) how far it is to a row
    column_of: Any  # (n,) the column before it, _FIRST for the source, _NOWHERE for a row that is not reached


@compiled
def _work(cost: Any, supply: Any, demand: Any) -> Any:
    """The least sum of flow times cost (n, m) that moves all of `supply` (n,), at most `demand` (m,).

    NaN where no flow is found in more searches than any jets need.  Both arguments are used up.
    """
    n, m = cost.shape
    # Of each column the rows that fill it, since they are asked for a column at a time.
    flow, u, v = np.zeros((m, n)), np.zeros(n), np.zeros(m)
    search = _Search(
        np.empty(m),
        np.empty(m, np.int64),
        np.arange(m),
        np.empty(n),
        np.empty(n, np.int64),
    )
    least = _ROUNDING * supply.sum()
    searches = _SEARCHES * (n + m)
    for source in range(n):
        while supply[source] > least:
            searches -= 1
            if searches < 0:
                return np.nan
            sink = _path(cost, flow, u, v, source, demand, search)
            if sink < 0:
                break  # all is filled to rounding
            _augment(flow, supply, demand, source, sink, search)
            if demand[sink] <= least:
                demand[sink] = 0.0
    return (flow * cost.T).sum()


@compiled
def _path(cost: Any, flow: Any, u: Any, v: Any, source: int, demand: Any, search: Any) -> Any:
    """The column with demand left to which it is cheapest from a row, by Dijkstra on reduced costs; or -1.

    From a row energy may go to every column, from a column back to the rows that filled it.  Notes the way
    in `search`, and moves the potentials, u of rows and v of columns, so that no reduced cost is negative and
    those along the way are zero.
    """
    n, m = cost.shape
    reach, row_of, left, start, column_of = search
    column_of[:] = _NOWHERE
    start[source], column_of[source] = 0.0, _FIRST
    for j in range(m):
        reach[j], row_of[j] = cost[source, j] - u[source] - v[j], source
    many = m
    while many:
        place, least = -1, np.inf
        for k in range(many):
            if reach[left[k]] < least:
                place, least = k, reach[left[k]]
        nearest = left[place]
        if demand[nearest] > 0:
            break
        many -= 1
        left[place], left[many] = left[many], nearest
        for i in range(n):
            if flow[nearest, i] > 0 and column_of[i] == _NOWHERE:
                start[i], column_of[i] = least, nearest
                off = least - u[i]
                for k in range(many):
                    j = left[k]
                    far = off + cost[i, j] - v[j]
                    if far < reach[j]:
                        reach[j], row_of[j] = far, i
    if many == 0:
        return -1
    # A column with demand left has never been passed: its potential is zero still, as that of the goal is.
    for i in range(n):
        if column_of[i] != _NOWHERE:
            u[i] += least - start[i]
    for k in range(many, m):
        v[left[k]] -= least - reach[left[k]]
    return nearest


@compiled
def _augment(flow: Any, supply: Any, demand: Any, source: int, sink: int, search: Any) -> None:
    """Send as much along the way to `sink` as its ends have and the flow that it undoes allows."""
    row_of, column_of = search.row_of, search.column_of
    amount = min(supply[source], demand[sink])
    column = column_of[row_of[sink]]
    row = row_of[sink]
    while column >= 0:
        amount = min(amount, flow[column, row])
        row = row_of[column]
        column = column_of[row]
    supply[source] -= amount
    demand[sink] -= amount
    column = sink
    while column >= 0:
        row = row_of[column]
        flow[column, row] += amount
        column = column_of[row]
        if column >= 0:
            flow[column, row] -= amount
