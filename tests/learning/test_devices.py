"""Everything stands on the device of its events.

Tests have one device; but within `meta` a tensor that is made without saying where has no data, and fails.
"""

from __future__ import annotations

import pytest
import torch

from hepdecorr import catalogue
from hepdecorr.learning import Batch, terms
from hepdecorr.learning.groups.judging import GroupJudge
from hepdecorr.learning.groups.representation import GroupRepresentation
from hepdecorr.learning.latents.traversal import unscaled
from hepdecorr.learning.networks.inputs import Inputs
from hepdecorr.learning.networks.principal import Principal
from hepdecorr.learning.terms import Adversary

ELSEWHERE = torch.device("meta")


@pytest.mark.parametrize("given", ["background", "label"])
@pytest.mark.parametrize("name", terms.__all__)
def test_terms(name: str, given: str, batch: Batch) -> None:
    spec = {"type": name, "nuisance": "mass", "given": "all" if name == "DisCo" else given}
    term = catalogue.build(spec, home="hepdecorr.learning.terms", nuisances=["mass"])
    logit = batch.x[:, 0].clone().requires_grad_()
    with ELSEWHERE:
        term.fit(batch)
        term.price(logit, batch).backward()
        if isinstance(term, Adversary):
            term.chase(logit.detach(), batch).backward()
    assert logit.grad is not None
    assert logit.grad.abs().sum() > 0


def test_inputs(batch: Batch) -> None:
    principal = Principal(3, within=0, bins=4, interpolate=True)
    inputs = Inputs(["a", "b", "c"], scale="quantile", clip=0)
    inputs.fit(batch.x)
    with ELSEWHERE:
        principal.fit(batch.x)
        assert principal(batch.x).isfinite().all()
        assert torch.allclose(unscaled(inputs, inputs(batch.x)), batch.x, atol=1e-3)


@pytest.mark.parametrize("regulariser", ["LeaveOneOut", {"type": "Nemeth", "update": "reversal"}])
@pytest.mark.parametrize("encoder", ["DeepSets", "Mean", "Product"])
def test_groups(encoder: str, regulariser: str | dict, batch: Batch) -> None:
    group = torch.arange(len(batch.y)) // 7
    own = GroupRepresentation(features=["a", "b", "c"], group_encoder=encoder, regulariser=regulariser)
    b = batch._replace(group=group)
    with ELSEWHERE:
        own.inputs.fit(b.x)
        own.net.encoder.fit(torch.bincount(group))
        if not own.regulariser.reversal:
            own._chase(b)["chase"].backward(retain_graph=True)
        sum(own._pay(b, 0.5).values()).backward()
        with torch.no_grad():
            verdict = GroupJudge(own, b)({})
            code = own.codes(b.x, b.group)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in own.parameters())
    assert torch.tensor(list(verdict.figures.values())).isfinite().all()
    assert code.mean.isfinite().all()
