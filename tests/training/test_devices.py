"""Everything stands on the device of its events.

Tests have one device; but within `meta` a tensor that is made without saying where has no data, and fails.
"""

from __future__ import annotations

import pytest
import torch

from hepdecorr import registry
from hepdecorr.training import Batch, losses
from hepdecorr.training.group_vae.model import GroupVAEModel, GroupVAEValidator
from hepdecorr.training.losses import Adversary
from hepdecorr.training.networks.preprocessing import ConditionalWhitening, FeaturePreprocessor
from hepdecorr.training.vae.traversal import invert_preprocessing

ELSEWHERE = torch.device("meta")


@pytest.mark.parametrize("given", ["background", "each"])
@pytest.mark.parametrize("name", losses.__all__)
def test_terms(name: str, given: str, batch: Batch) -> None:
    spec = {"type": name, "nuisance": "mass", "classes": "all" if name == "DisCo" else given}
    term = registry.build(spec, namespace="hepdecorr.training.losses", nuisances=["mass"])
    logit = batch.x[:, 0].clone().requires_grad_()
    with ELSEWHERE:
        term.fit(batch)
        term.penalty(logit, batch).backward()
        if isinstance(term, Adversary):
            term.loss(logit.detach(), batch).backward()
    assert logit.grad is not None
    assert logit.grad.abs().sum() > 0


def test_inputs(batch: Batch) -> None:
    principal = ConditionalWhitening(3, conditioning_index=0, bins=4, interpolate=True)
    inputs = FeaturePreprocessor(["a", "b", "c"], scale="quantile", clip=0)
    inputs.fit(batch.x)
    with ELSEWHERE:
        principal.fit(batch.x)
        assert principal(batch.x).isfinite().all()
        assert torch.allclose(invert_preprocessing(inputs, inputs(batch.x)), batch.x, atol=1e-3)


@pytest.mark.parametrize("regulariser", ["LeaveOneOut", {"type": "Nemeth", "gradient_reversal": True}])
@pytest.mark.parametrize("encoder", ["DeepSetsEncoder", "MeanEncoder", "ProductEncoder"])
def test_groups(encoder: str, regulariser: str | dict, batch: Batch) -> None:
    group = torch.arange(len(batch.y)) // 7
    own = GroupVAEModel(features=["a", "b", "c"], group_encoder=encoder, regulariser=regulariser)
    b = batch._replace(group=group)
    with ELSEWHERE:
        own.inputs.fit(b.x)
        own.net.group_encoder.fit(torch.bincount(group))
        if not own.regulariser.uses_gradient_reversal:
            own._critic_loss(b)["loss"].backward(retain_graph=True)
        sum(own._loss(b, 0.5).values()).backward()
        with torch.no_grad():
            verdict = GroupVAEValidator(own, b)({})
            code = own.group_posteriors(b.x, b.group)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in own.parameters())
    assert torch.tensor(list(verdict.metrics.values())).isfinite().all()
    assert code.mean.isfinite().all()
