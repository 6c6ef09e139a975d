"""Back to the laboratory, against the frames in the graph, which are made by other means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vector

from hepdecorr.columnar import laboratory
from hepdecorr.errors import InputError
from hepdecorr.learning.networks.jet_frame import JetFrame

NAMES = ["pt", "eta", "phi", "mass"]


def made_jets(n, *, seed=1, least=2, slots=12):
    draw = np.random.default_rng(seed)
    pt = np.sort(np.exp(draw.uniform(0, 5, (n, slots))))[:, ::-1]
    eta = draw.normal(0, 0.2, (n, slots)) + draw.uniform(-2, 2, (n, 1))
    phi = draw.normal(0, 0.2, (n, slots)) + draw.uniform(-2.5, 2.5, (n, 1))
    x = np.stack([pt, eta, phi, draw.choice([0.0, 0.1396], (n, slots))], 2).astype(np.float32)
    mask = np.arange(slots) < draw.integers(least, slots + 1, (n, 1))
    return x, mask.astype(np.float32)


@pytest.mark.parametrize("boost", laboratory.BOOSTS)
@pytest.mark.parametrize("rotate", [True, False])
def test_it_leads_back_from_where_the_graph_has_put_jets(boost, rotate):
    x, mask = made_jets(400)
    placed = JetFrame(NAMES, length=12, boost=boost, rotate=rotate).place(torch.tensor(x), torch.tensor(mask))
    framed = placed.momenta.numpy()
    lab = laboratory.four_momenta(x, mask, NAMES)
    pt, eta, phi, mass = x.astype(np.float64).transpose(2, 0, 1)
    v = vector.array({"pt": pt, "eta": eta, "phi": phi, "mass": mass})
    expected = np.stack([v.E, v.px, v.py, v.pz], 2) * mask[..., None]
    np.testing.assert_allclose(lab, expected, rtol=1e-9)
    pose = laboratory.poses(lab, framed, boost=boost)
    scale = lab[..., 0].sum(1)[:, None, None]
    np.testing.assert_allclose(pose.back(framed.astype(np.float64)) / scale, lab / scale, atol=1e-5)
    # of whatever stands in the frame, where three constituents fix the turn
    other = np.random.default_rng(2).normal(size=(400, 12, 3))
    other = np.concatenate([np.linalg.norm(other, axis=2, keepdims=True), other], 2)
    fixed = mask.sum(1) > 3
    theirs = placed.pose.back(torch.tensor(other)).numpy()
    gamma = np.sqrt(1 + np.square(pose.velocity).sum(1))[:, None, None]
    np.testing.assert_allclose((pose.back(other) / gamma)[fixed], (theirs / gamma)[fixed], atol=3e-3)


def test_a_frame_that_is_none_of_the_jets_is_refused():
    x, mask = made_jets(20)
    placed = JetFrame(NAMES, length=12, boost="beam").place(torch.tensor(x), torch.tensor(mask))
    with pytest.raises(InputError, match="20 of 20 jets are not in the frame 'rest'"):
        laboratory.poses(laboratory.four_momenta(x, mask, NAMES), placed.momenta.numpy(), boost="rest")
    with pytest.raises(InputError, match="it is rest, beam or none"):
        laboratory.poses(laboratory.four_momenta(x, mask, NAMES), placed.momenta.numpy(), boost="reset")


def test_a_jet_at_rest_is_launched_with_a_momentum_and_keeps_its_mass():
    x, mask = made_jets(100)
    lab = laboratory.four_momenta(x, mask, NAMES)
    placed = JetFrame(NAMES, length=12).place(torch.tensor(x), torch.tensor(mask))
    pose = laboratory.poses(lab, placed.momenta.numpy(), boost="rest")
    like = lab[..., 1:].sum(1)
    draw = np.random.default_rng(3)
    made = laboratory.on_shell(draw.normal(size=(100, 12, 4)) * draw.uniform(1, 9, (100, 1, 1)))
    np.testing.assert_allclose(laboratory.mass_of(made), 0, atol=1e-5)
    there = laboratory.launched(made, pose, like)
    total = there.sum(1)
    np.testing.assert_allclose(total[:, 1:], like, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(laboratory.mass_of(total), laboratory.mass_of(made.sum(1)), rtol=1e-4)
    # the jet itself, launched with its own momentum, is the jet
    scale = lab[..., 0].sum(1)[:, None, None]
    again = laboratory.launched(placed.momenta.double().numpy(), pose, like)
    np.testing.assert_allclose(again / scale, lab / scale, atol=1e-5)


def test_features_relative_to_the_jet_are_read():
    x, mask = made_jets(30)
    whole = laboratory.four_momenta(x, mask, NAMES)
    relative = np.stack([np.log(x[..., 0]), x[..., 1] - 0.5, x[..., 2]], 2)
    found = laboratory.four_momenta(relative, mask, ["log_pt", "deta", "dphi"])
    np.testing.assert_allclose(
        np.hypot(found[..., 1], found[..., 2]), np.hypot(whole[..., 1], whole[..., 2]), rtol=1e-5
    )
    with np.errstate(invalid="ignore"):
        eta = np.where(
            mask > 0, np.arcsinh(found[..., 3] / np.hypot(found[..., 1], found[..., 2])), x[..., 1] - 0.5
        )
    np.testing.assert_allclose(eta, x[..., 1] - 0.5, atol=1e-5)
