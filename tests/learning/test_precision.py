"""Figures of dependence are small differences: mixed precision must leave them as they are."""

from __future__ import annotations

import pytest
import torch

from hepdecorr import catalogue
from hepdecorr.learning import Batch
from hepdecorr.learning.latents import Latent
from hepdecorr.learning.latents.decomposition import decompose
from hepdecorr.learning.latents.estimators import block_distance_correlation

HALF = {"dtype": torch.bfloat16}


@pytest.mark.parametrize("spec", [
    {"type": "DisCo"}, {"type": "Flatness"}, {"type": "LinearCorrelation"}, {"type": "MoDe"},
    {"type": "MoDe", "order": 2},
], ids=str)  # fmt: skip
def test_a_penalty_is_the_same_in_mixed_precision(spec: dict[str, object], batch: Batch) -> None:
    term = catalogue.build(spec | {"nuisance": "mass"}, home="hepdecorr.learning.terms", nuisances=["mass"])
    term.fit(batch)
    logit = batch.x[:, 0].clone().requires_grad_()
    found = []
    for mixed in (False, True):
        with torch.autocast("cpu", enabled=mixed, **HALF):
            assert ((logit[:2, None] @ logit[None, :2]).dtype == torch.bfloat16) == mixed
            price = term.price(logit, batch)
        found.append((price.detach(), torch.autograd.grad(price, logit)[0]))
    torch.testing.assert_close(found[1], found[0])


def test_latents_are_taken_apart_in_full_precision() -> None:
    torch.manual_seed(1)
    latent = Latent(torch.randn(200, 6), torch.randn(200, 6) - 1, torch.randn(200, 6))
    found = []
    for mixed in (False, True):
        with torch.autocast("cpu", enabled=mixed, **HALF):
            dcor = block_distance_correlation(latent.mean, latent.sample[:, :2], torch.ones(200))
            found.append((*decompose(latent, sensitive=1, rows=1000), dcor))
    torch.testing.assert_close(found[1], found[0])
    assert found[1][0].dtype == torch.float32


def test_block_distance_correlation_keeps_a_finite_gradient_where_points_coincide() -> None:
    torch.manual_seed(1)
    s = torch.randn(40, 3)
    s[1] = s[0]
    s.requires_grad_()
    block_distance_correlation(s, torch.randn(40, 2), torch.ones(40)).backward()
    assert s.grad is not None
    assert s.grad.isfinite().all()
