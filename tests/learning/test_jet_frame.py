"""Jets in frames of their own: against vector, numpy, scikit-learn and the compiled features rest_*."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
import vector
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import RobustScaler

from hepdecorr.columnar.features import constituent_frames
from hepdecorr.errors import InputError
from hepdecorr.learning.graphs import quiet
from hepdecorr.learning.networks.jet_frame import JetFrame, quantiles
from hepdecorr.learning.networks.jet_pose import principal_axes

NAMES = ["pt", "eta", "phi", "mass"]


def made_jets(n: int, *, slots: int = 24, least: int = 2, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw features (n, slots, 4), hardest first, nonsense in the padding, and the mask."""
    draw = np.random.default_rng(seed)
    pt = np.sort(np.exp(draw.uniform(0, 5, (n, slots))))[:, ::-1]
    eta = draw.normal(0, 0.2, (n, slots)) + draw.uniform(-2, 2, (n, 1))
    phi = (draw.normal(0, 0.2, (n, slots)) + draw.uniform(-3.1, 3.1, (n, 1)) + np.pi) % (2 * np.pi) - np.pi
    mass = draw.choice([0.0, 0.1396], (n, slots))
    mask = np.arange(slots) < draw.integers(least, slots + 1, (n, 1))
    x = np.where(mask[..., None], np.stack([pt, eta, phi, mass], 2), np.nan)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(mask)


def lab(x: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """Four-momenta by `vector`, zero in the padding."""
    pt, eta, phi, mass = np.where(mask[..., None], x.double().numpy(), 0).transpose(2, 0, 1)
    v = vector.array({"pt": pt, "eta": eta, "phi": phi, "mass": mass})
    return np.stack([v.E, v.px, v.py, v.pz], 2) * mask.numpy()[..., None]


def test_the_rest_frame_is_that_of_the_compiled_features() -> None:
    x, mask = made_jets(500, slots=20)
    placed = JetFrame(NAMES).place(x, mask)
    start = np.concatenate([[0], mask.sum(1).cumsum(0).numpy()])
    pt, eta, phi, mass = x[mask].double().numpy().T.copy()
    out = np.empty((4, len(pt)))
    assert constituent_frames.at_rest(start, pt, eta, phi, mass, out) == 0
    np.testing.assert_allclose(placed.momenta[mask], out.T, rtol=1e-5, atol=1e-5)
    assert placed.good.all()
    assert (placed.momenta[~mask] == 0).all()


@pytest.mark.parametrize("boost", ["rest", "beam", "none"])
@pytest.mark.parametrize("rotate", [True, False])
def test_a_frame_keeps_scalar_products_and_leads_back(boost: str, rotate: bool) -> None:
    x, mask = made_jets(300)
    placed = JetFrame(NAMES, boost=boost, rotate=rotate).place(x, mask)
    before, after = lab(x, mask)[:, :20], placed.momenta.double().numpy()
    metric = np.diag([1.0, -1, -1, -1])
    scale = before[..., 0].sum(1)[:, None, None]
    for p in (before, after):
        p /= scale
    np.testing.assert_allclose(
        after @ metric @ after.transpose(0, 2, 1), before @ metric @ before.transpose(0, 2, 1), atol=1e-7
    )
    np.testing.assert_allclose(placed.pose.back(placed.momenta.double()).numpy() / scale, before, atol=1e-6)
    axes = placed.pose.axes.numpy()
    np.testing.assert_allclose(
        axes @ axes.transpose(0, 2, 1), np.broadcast_to(np.eye(3), axes.shape), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(axes), 1)
    total = after.sum(1)
    if boost == "rest":
        assert (np.linalg.norm(total[:, 1:], axis=1) < 1e-3 * total[:, 0]).all()
    else:  # centred
        np.testing.assert_allclose(total[:, 2:], 0, atol=1e-7)
        assert (total[:, 1] > 0).all()


@pytest.mark.parametrize("boost", ["beam", "none"])
def test_along_the_beam_as_vector_does_it(boost: str) -> None:
    x, mask = made_jets(60)
    found = JetFrame(NAMES, boost=boost).place(x, mask).momenta.numpy()
    for jet, momenta in zip(lab(x, mask)[:, :20], found, strict=True):
        p = vector.array(dict(zip(("E", "px", "py", "pz"), jet[jet[:, 0] > 0].T, strict=True)))
        total = vector.obj(E=p.E.sum(), px=p.px.sum(), py=p.py.sum(), pz=p.pz.sum())
        p = p.rotateZ(-total.phi)
        p = p.boostZ(beta=-total.pz / total.E) if boost == "beam" else p.rotateY(np.pi / 2 - total.theta)
        r = np.hypot(p.eta, p.phi)
        angle = np.arctan2((p.E * p.phi / r).sum(), (p.E * p.eta / r).sum())
        p = p.rotateX(angle)
        expected = np.stack([p.E, p.px, p.py, p.pz], 1)
        np.testing.assert_allclose(momenta[: len(expected)], expected, rtol=1e-5, atol=1e-4)
        # most of the energy now lies above the jet's axis
        assert (p.E * p.eta / r).sum() > 0


def symmetric(values: np.ndarray, seed: int) -> np.ndarray:
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    a = turn @ np.diag(values) @ turn.T
    return (a + a.T) / 2


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays("float64", 3, elements=st.sampled_from([0, 1e-9, 0.2, 0.2 + 1e-12, 0.5, 0.7, 1])),
    st.integers(0, 99),
)
def test_axes_are_eigenvectors_whatever_the_shape_of_the_jet(values: np.ndarray, seed: int) -> None:
    a = symmetric(values, seed)
    first, second = (v[0].numpy() for v in principal_axes(torch.tensor(a)[None]))
    ordered = np.linalg.eigvalsh(a)[::-1]
    np.testing.assert_allclose(a @ first, ordered[0] * first, atol=1e-14)
    np.testing.assert_allclose(a @ second, ordered[1] * second, atol=1e-14)
    np.testing.assert_allclose([first @ first, first @ second, second @ second], [1, 0, 1], atol=1e-14)


def test_robust_scaling_of_slots_is_that_of_scikit_learn() -> None:
    x, mask = made_jets(800, least=19)
    frame = JetFrame(NAMES)
    frame.fit(x, mask)
    flat = frame.place(x, mask).momenta.flatten(1).numpy()
    expected = RobustScaler().fit_transform(flat)
    found = frame(x, mask)
    np.testing.assert_allclose(found.x.flatten(1), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(frame.unscale(found.x), found.momenta, rtol=1e-4, atol=1e-4)


def test_a_slot_that_is_mostly_empty_is_scaled_by_what_is_there() -> None:
    x, mask = made_jets(3000, slots=20)
    mask &= torch.arange(20) < torch.where(torch.arange(len(x)) % 5 == 0, 20, 10)[:, None]
    frame = JetFrame(NAMES)
    frame.fit(x, mask)
    momenta, there = frame.place(x, mask).momenta[:, 12].double(), mask[:, 12]
    assert there.double().mean() < 0.2
    assert np.quantile(momenta[:, 0], 0.75) == 0
    low, high = np.quantile(momenta[there].numpy(), [0.25, 0.75], axis=0)
    np.testing.assert_allclose(frame.spread[12], high - low, rtol=1e-5)
    np.testing.assert_array_equal(frame.centre[12], 0)
    # and one that is always empty leaves GeV
    frame.fit(x[:, :15], mask[:, :15])
    np.testing.assert_array_equal(frame.spread[15:], 1)


@pytest.mark.parametrize("scale", ["robust", "standard"])
def test_scaling_of_components_leaves_the_padding_at_zero(scale: str) -> None:
    x, mask = made_jets(600)
    frame = JetFrame(NAMES, per="component", scale=scale)
    frame.fit(x, mask)
    out = frame(x, mask)
    assert (out.x[~out.mask] == 0).all()
    assert (out.x[out.mask] != 0).any(1).all()
    filled = out.x[out.mask].double().numpy()
    if scale == "robust":
        np.testing.assert_allclose(np.quantile(filled, [0.25, 0.5, 0.75], axis=0)[1], 0, atol=1e-4)
        np.testing.assert_allclose(np.subtract(*np.quantile(filled, [0.75, 0.25], axis=0)), 1, rtol=1e-4)
    else:
        np.testing.assert_allclose([filled.mean(0), filled.std(0) - 1], 0, atol=1e-4)
    np.testing.assert_allclose(frame.unscale(out.x)[out.mask], out.momenta[out.mask], rtol=1e-3, atol=1e-3)


def test_weights_count_in_the_scaling() -> None:
    x, mask = made_jets(2000)
    w = torch.cat([torch.ones(1000), torch.zeros(1000)])
    alone, weighted, repeated, doubled = (JetFrame(NAMES, per="component") for _ in range(4))
    alone.fit(x[:1000], mask[:1000])
    weighted.fit(x, mask, w)
    torch.testing.assert_close(weighted.state_dict(), alone.state_dict())
    doubled.fit(x, mask, 1 + 3 * w)
    order = torch.cat([torch.arange(1000).repeat(4), torch.arange(1000, 2000)])
    repeated.fit(x[order], mask[order])
    torch.testing.assert_close(doubled.state_dict(), repeated.state_dict(), rtol=1e-3, atol=1e-3)
    assert not torch.equal(doubled.spread, alone.spread)


def test_quantiles_of_equal_weights_are_those_of_numpy() -> None:
    for n in (1, 2, 7, 100):
        values = torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
        expected = np.quantile(values.numpy(), [0, 0.25, 0.5, 0.9, 1])
        np.testing.assert_allclose(
            quantiles(values, 3 * torch.ones_like(values), (0, 0.25, 0.5, 0.9, 1)), expected
        )


def test_directions_relative_to_the_jet_give_the_same_jet() -> None:
    x, mask = made_jets(100, slots=20)
    x = torch.where(mask[..., None], x, 1.0)
    x[..., 3] = 0
    x[..., 2] *= 0.3  # away from the seam at pi
    relative = torch.stack([x[..., 0].log(), x[..., 1] - x[:, :1, 1], x[..., 2] - x[:, :1, 2]], 2)
    whole = JetFrame(NAMES).place(x, mask).momenta
    found = JetFrame(["log_pt", "deta", "dphi"]).place(relative, mask).momenta
    torch.testing.assert_close(found, whole, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("boost", ["rest", "beam", "none"])
def test_jets_without_meaning_are_finite_and_known(boost: str) -> None:
    one = [300.0, 1.0, 2.0, 0.0]
    jets = torch.tensor(
        [
            [one, one, one],
            [one, one, one],  # collinear: no mass
            [[300.0, 0.0, 0.0, 0.0], [300.0, 0.0, torch.pi, 0.0], one],  # back to back: no momentum
            [one, [0.0, 1.0, 2.0, 0.1], one],  # the second has no momentum
            [one, one, one],
            [[1e30, -1e30, 1e30, 1e30], [-1e30, 1e30, -1e30, -1e30], one],
        ]
    )
    mask = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]]).bool()
    frame = JetFrame(NAMES, boost=boost)
    out = frame(jets, mask)
    assert all(torch.isfinite(t).all() for t in (out.x, out.momenta, *frame.place(jets, mask).pose))
    assert out.good.tolist() == [False, True, True, False, False, True]
    assert frame(jets[:0], mask[:0]).x.shape == (0, 20, 4)
    with pytest.raises(InputError, match="of 2 jets none has two constituents"):
        frame.fit(jets[3:5], mask[3:5])


def test_onnx_gives_what_torch_gives_for_any_number_of_slots() -> None:
    import onnxruntime

    x, mask = made_jets(400, least=0)
    # The rest frame is in the graph of JetVAE, which is tried in the same way when it is exported.
    frame = JetFrame(NAMES, boost="beam", per="component")
    frame.fit(x, mask)
    rows, slots = torch.export.Dim("jets", min=1), torch.export.Dim("slots", min=1)
    with quiet():
        program = torch.onnx.export(
            frame.eval(),
            (torch.ones(3, 5, 4), torch.ones(3, 5)),
            dynamo=True,
            dynamic_shapes=({0: rows, 1: slots}, {0: rows, 1: slots}),
            input_names=["x", "mask"],
            verbose=False,
        )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    run = functools.partial(session.run, None)
    wild = torch.where(
        mask[:40, :, None], 1e6 * torch.randn(40, 24, 4, generator=torch.Generator().manual_seed(2)), 0
    )
    trials = [
        (x, mask),
        (x[:1, :1], mask[:1, :1]),
        (x[:, :3], mask[:, :3]),
        (x, mask & False),
        (wild, mask[:40]),
    ]
    for raw, there in trials:
        found = run({"x": raw.numpy(), "mask": there.float().numpy()})
        for got, expected in zip(found, frame(raw, there), strict=True):
            np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boost": "reset"}, "no boost 'reset'.*did you mean 'rest'"),
        ({"scale": "robus"}, "did you mean 'robust'"),
        ({"per": "jet"}, "no per 'jet'"),
        ({"length": 1}, "a jet has 2 constituents at least"),
        ({"constituents": ["log_pt_rel", "deta", "dphi"]}, "pt or log_pt.*they are log_pt_rel, deta, dphi"),
        ({"constituents": ["pt", "deta", "phi"]}, "four-momenta are made of"),
    ],
)
def test_faults_are_named(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        JetFrame(**({"constituents": NAMES} | change))
