"""The energy mover's distance against a linear program, another library's answers, and what it must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from hepdecorr.emd import Points, distance, emd, on_plane, on_sphere
from hepdecorr.errors import InputError

# (pt, eta, phi) of two jets, and what emd of EnergyFlow 1.4.0 (R=1, periodic_phi=True) gives for them with
# norm=True and norm=False.
PUBLISHED: list[tuple[Any, Any, float, float]] = [
    (
        [[41.01, -0.36, 3.02], [28.3, -0.18, 3.54], [22.74, -0.4, 2.8]],
        [[21.65, 0.04, -3.0], [12.49, -0.37, 2.46], [12.02, -0.01, 2.82]],
        0.3838070526949456,
        62.190576846801164,
    ),
    (
        [
            [125.79, 0.06, 3.05],
            [35.34, -0.07, 2.39],
            [29.43, -1.01, 2.81],
            [13.93, -0.22, 2.61],
            [3.0, -0.02, 2.68],
        ],
        [[55.86, -0.01, 2.77], [25.39, 0.35, 2.96]],
        0.4061782155674772,
        149.1346968149636,
    ),
    (
        [[122.99, 0.03, 2.51]],
        [[89.72, 0.05, 2.52], [69.92, -0.26, 3.03], [12.1, 0.8, -3.05], [5.8, 0.3, 2.92]],
        0.33381649607272057,
        75.75913297830449,
    ),
]


def jets(seed: int, jets: int, size: int, *, empty: float = 0.0) -> Any:
    """Massless four-momenta with a steep spectrum, a share of them zero, never all of a jet."""
    rng = np.random.default_rng(seed)
    pt, eta, phi = rng.exponential(5, (jets, size)) ** 2, *rng.normal(0, 0.4, (2, jets, size))
    pt[:, 1:] *= rng.random((jets, size - 1)) >= empty
    return np.stack([pt * np.cosh(eta), pt * np.cos(phi + 3), pt * np.sin(phi + 3), pt * np.sinh(eta)], 2)


def programmed(first: Any, second: Any, apart: Any, *, norm: bool) -> float:
    """Eq. 1 of 1902.02346 for weights (L,) and (M,), as it stands, by scipy's linear program."""
    a, b = (one / one.sum() if norm else one for one in (first, second))
    size, other = len(a), len(b)
    rows = [np.kron(np.eye(size), np.ones(other)), np.kron(np.ones(size), np.eye(other))]
    found = linprog(
        apart.ravel(),
        A_ub=np.concatenate(rows),
        b_ub=np.concatenate([a, b]),
        A_eq=np.ones((1, size * other)),
        b_eq=[min(a.sum(), b.sum())],
    )
    return float(found.fun + abs(a.sum() - b.sum()))


def far(first: Any, second: Any, ground: str) -> Any:
    """Distances (L, M) of four-momenta (L, 4) and (M, 4), in another way than the code's."""
    if ground == "sphere":
        a, b = (one[:, 1:] / np.linalg.norm(one[:, 1:], axis=1)[:, None] for one in (first, second))
        return np.arctan2(np.linalg.norm(np.cross(a[:, None], b[None]), axis=2), a @ b.T)
    eta, other = (np.arctanh(one[:, 3] / np.linalg.norm(one[:, 1:], axis=1)) for one in (first, second))
    phi = (one[:, 1] + 1j * one[:, 2] for one in (first, second))
    turned = np.angle(np.divide.outer(*phi))
    return np.sqrt(np.subtract.outer(eta, other) ** 2 + turned**2)


@pytest.mark.parametrize("ground", ["plane", "sphere"])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(("size", "other"), [(20, 20), (1, 7), (9, 4)])
def test_it_is_the_solution_of_the_linear_program(ground: str, norm: bool, size: int, other: int) -> None:
    first, second = jets(1, 12, size, empty=0.2), jets(2, 12, other, empty=0.2)
    found = emd(first, second, ground=ground, norm=norm)
    assert found.shape == (12,)
    for a, b, one in zip(first, second, found, strict=True):
        a, b = a[a[:, 0] > 0], b[b[:, 0] > 0]
        pt = [np.linalg.norm(c[:, 1:3] if ground == "plane" else c[:, 1:], axis=1) for c in (a, b)]
        assert one == pytest.approx(programmed(*pt, far(a, b, ground), norm=norm), rel=1e-9, abs=1e-9)
    assert found.min() > 1e-3


@pytest.mark.parametrize("places", ["equal", "grid", "line", "heavy"])
def test_ties_and_other_degenerate_jets(places: str) -> None:
    """Where many flows cost the same, or weights differ by orders of magnitude."""
    rng = np.random.default_rng(5)
    made = []
    for size in (12, 10):
        place, weight = rng.integers(0, 3, (15, size, 2)) * 0.5, rng.integers(0, 4, (15, size)).astype(float)
        if places == "line":
            place[..., 1] = 0
        if places == "equal":
            place, weight = rng.uniform(-1, 1, place.shape), np.ones(weight.shape)
        if places == "heavy":
            weight = 10 ** rng.uniform(-6, 0, weight.shape)
        weight[:, 0] += 1
        made.append(Points(weight, place))
    first, second = made
    for norm in (True, False):
        found = distance(first, second, norm=norm)
        for k, one in enumerate(found):
            apart = np.linalg.norm(first.place[k][:, None] - second.place[k][None], axis=2)
            known = programmed(first.weight[k], second.weight[k], apart, norm=norm)
            assert one == pytest.approx(known, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize(("first", "second", "normed", "plain"), PUBLISHED)
def test_it_is_what_energyflow_gives(first: Any, second: Any, normed: float, plain: float) -> None:
    a, b = (Points(np.array([one])[:, :, 0], np.array([one])[:, :, 1:]) for one in (first, second))
    before = b.place.copy()
    assert distance(a, b)[0] == pytest.approx(normed, rel=1e-12)
    assert distance(a, b, norm=False)[0] == pytest.approx(plain, rel=1e-12)
    # EnergyFlow turns phi in what it is given (thaler-lab/EnergyFlow#27).
    np.testing.assert_array_equal(b.place, before)


@pytest.mark.parametrize("ground", ["plane", "sphere"])
def test_it_is_a_metric(ground: str) -> None:
    a, b, c = (jets(seed, 40, 20, empty=0.3) for seed in (1, 2, 3))
    asked: dict[str, Any] = {"ground": ground, "radius": 4.0, "norm": False}  # theta below 2 R: a metric
    np.testing.assert_allclose(emd(a, a[:, ::-1], **asked), 0, atol=1e-10)
    np.testing.assert_allclose(emd(a, b, **asked), emd(b, a, **asked), rtol=1e-12)
    ab, bc, ac = emd(a, b, **asked), emd(b, c, **asked), emd(a, c, **asked)
    assert (ac <= ab + bc + 1e-9).all()
    assert (ab > 0.1).all()


def test_what_it_does_not_depend_on() -> None:
    a, b = jets(1, 30, 20), jets(2, 30, 20)
    rng = np.random.default_rng(0)
    known = {ground: emd(a, b, ground=ground) for ground in ("plane", "sphere")}
    for ground, value in known.items():
        mixed = a[:, rng.permutation(20)]
        np.testing.assert_allclose(emd(mixed, 3 * b, ground=ground), value, rtol=1e-9)
        np.testing.assert_allclose(emd(a, b, ground=ground, radius=0.5), 2 * value, rtol=1e-12)
        np.testing.assert_allclose(emd(a[7:8], b[7:8], ground=ground), value[7:8])
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = [np.concatenate([one[..., :1], one[..., 1:] @ turn], axis=2) for one in (a, b)]
    np.testing.assert_allclose(emd(*turned, ground="sphere"), known["sphere"], rtol=1e-9)
    # On the plane a turn about the beam and a boost along it do nothing, across the seam of phi as well.
    energy, px, py, pz = np.moveaxis(np.stack([a, b]), 3, 0)
    boosted = np.stack(
        [energy * np.cosh(1) + pz * np.sinh(1), -py, px, pz * np.cosh(1) + energy * np.sinh(1)], 3
    )
    np.testing.assert_allclose(emd(*boosted, ground="plane"), known["plane"], rtol=1e-9)
    assert (np.abs(known["plane"] - known["sphere"]) > 1e-3).any()


def test_closed_forms() -> None:
    def one(*points: tuple[float, float, float]) -> Points:
        array = np.array([points], dtype=float)
        return Points(array[..., 0], array[..., 1:])

    # One to one: the distance, over the seam of phi; and what is more of the energy.
    assert distance(one((2, 0, 3.1)), one((5, 0.3, -3.1)))[0] == pytest.approx(np.hypot(0.3, 2 * np.pi - 6.2))
    assert distance(one((2, 0, 0)), one((5, 0.3, 0)), norm=False)[0] == pytest.approx(2 * 0.3 + 3)
    # On a line: the area between the cumulative distributions, 0.6 * 1 + 0.2 * 1.
    line = distance(one((0.6, 0, 0), (0.4, 2, 0)), one((1.6, 1, 0), (0.4, 2, 0)))[0]
    assert line == pytest.approx(0.6 * 1 + 0.2 * 1)
    # Back to back on the sphere: pi, to all digits; nearly the same direction: no arc cosine loses it.
    along = np.array([[[1.0, 0, 0, 1]]])
    assert emd(along, -along, ground="sphere")[0] == pytest.approx(np.pi, abs=1e-12)
    assert emd(along, [[[1.0, 1e-10, 0, 1]]], ground="sphere")[0] == pytest.approx(1e-10, rel=1e-6)


def test_jets_of_nothing() -> None:
    jet, nothing = jets(1, 1, 5), np.zeros((1, 5, 4))
    for ground, made in (("plane", on_plane), ("sphere", on_sphere)):
        weight = made(jet).weight.sum()
        assert emd(jet, nothing, ground=ground)[0] == 1
        assert emd(nothing, jet, ground=ground, norm=False)[0] == pytest.approx(weight)
        assert emd(nothing, nothing, ground=ground)[0] == 0
        assert emd(jet, jet[:, :0], ground=ground)[0] == 1
        assert emd(jet[:0], nothing[:0], ground=ground).shape == (0,)
        padded = np.concatenate([nothing, jet], axis=1)
        np.testing.assert_allclose(
            emd(padded, jets(2, 1, 5), ground=ground), emd(jet, jets(2, 1, 5), ground=ground)
        )
    # Along the beam there is no pt, and on the plane such a constituent is none.
    beam = np.concatenate([jet, [[[9.0, 0, 0, 9]]]], axis=1)
    assert emd(beam, jet)[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ground": "torus"}, "no ground 'torus'.*plane"),
        ({"radius": 0.0}, "radius 0; it must be positive"),
        ({"first": np.ones((2, 3))}, r"momenta of shape \(2, 3\); give \(jets, constituents, 4\)"),
        ({"second": np.ones((3, 3, 4))}, r"both need as many jets"),
        ({"first": np.full((2, 3, 4), np.nan)}, "momenta are not finite in 2 of 2 jets"),
    ],
)
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        emd(**({"first": np.ones((2, 3, 4)), "second": np.ones((2, 3, 4))} | given))


@pytest.mark.parametrize(
    ("weight", "place", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 3, 4)), "and the same with 2 numbers"),
        (-np.ones((2, 3)), np.ones((2, 3, 2)), "first weights are negative in 2 jets"),
        (np.ones((2, 3)), np.zeros((2, 3, 3)), "no direction for 6 constituents"),
        (np.ones((2, 3)), np.full((2, 3, 2), np.inf), "first places are not finite in 2 of 2 jets"),
    ],
)
def test_points_that_are_refused(weight: Any, place: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        distance(Points(weight, place), Points(np.ones((2, 3)), np.ones((2, 3, 2))))
