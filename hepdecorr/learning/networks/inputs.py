"""Preprocessing of raw features as a layer, so that it travels inside the exported graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.networks.principal import Principal

SCALES = ("standard", "robust", "quantile", "pca", "none")
SMALLEST = 1e-6  # a logarithm's argument is clamped here, so that no event gives NaN


class Inputs(nn.Module):
    """Raw features (..., f) to numbers of order one (..., f).

    First logarithms, for heavy tails: `log: {R1: 1e-4}` takes log(R1 + 1e-4), and
    `log: {thrust: {below: 1.002}}` takes log(1.002 - thrust), for values that pile up under a bound.
    `log: {mPi0: {shift: 5e-3, negative: -1}}` gives all negative values, which stand for "none", -1.
    Then the scale: 'standard' (mean, deviation), 'robust' (median, quartiles), 'quantile' (a piecewise
    linear map through `knots` quantiles to those of a unit Gaussian), 'pca' (principal components in
    `bins` of the feature `within`, which itself is taken out; see Principal), or 'none'.  Then clipping to
    [-clip, clip], 0 for none: an event outside the training range gives no wild score.
    """

    shift: Tensor
    slope: Tensor
    log_sign: Tensor
    log_offset: Tensor
    logged: Tensor
    marked: Tensor
    negative: Tensor
    edges: Tensor
    rises: Tensor

    def __init__(
        self,
        features: Sequence[str],
        *,
        scale: str = "standard",
        clip: float = 6.0,
        log: Mapping[str, Any] | None = None,
        knots: int = 20,
        within: str = "",
        bins: int = 20,
        interpolate: bool = True,
    ) -> None:
        super().__init__()
        if scale not in SCALES:
            raise InputError(f"inputs: no scale {scale!r}{suggest(scale, SCALES)}")
        if clip < 0 or knots < 3:
            raise InputError("inputs: clip cannot be negative and knots must be at least 3")
        if (scale == "pca") != bool(within) or bins < 2:
            raise InputError(
                "inputs: 'scale: pca' needs 'within', a feature in bins (2 at least) of which it is done; no "
                "other scale takes it"
            )
        if within and within not in features:
            raise InputError(f"inputs: within {within!r}, which is no feature{suggest(within, features)}")
        self.scale, self.clip = scale, float(clip)
        self.principal = (
            Principal(len(features), within=list(features).index(within), bins=bins, interpolate=interpolate)
            if within
            else None
        )
        self._log(list(features), dict(log or {}))
        count = len(features)
        self.register_buffer("shift", torch.zeros(count))
        self.register_buffer("slope", torch.ones(count))
        inner = knots if scale == "quantile" else 0
        self.register_buffer("edges", torch.zeros(inner, count))
        self.register_buffer("rises", torch.zeros(max(0, inner - 1), count))

    def _log(self, features: list[str], log: Mapping[str, Any]) -> None:
        logged, sign, offset = (torch.zeros(len(features)) for _ in range(3))
        marked, negative = torch.zeros(len(features)), torch.zeros(len(features))
        for name, rule in log.items():
            if name not in features:
                raise InputError(f"inputs: log of {name!r}, which is no feature{suggest(name, features)}")
            given = dict(rule) if isinstance(rule, Mapping) else {"shift": rule}
            k = features.index(name)
            try:
                if "negative" in given:
                    marked[k], negative[k] = 1.0, float(given.pop("negative"))
                (kind, bound), logged[k] = given.popitem(), 1.0
                sign[k], offset[k] = {"shift": 1.0, "below": -1.0}[kind], float(bound)
            except (KeyError, TypeError, ValueError):
                given = {"any": 1}
            if given:
                raise InputError(
                    f"inputs: log of {name!r} must be a shift, {{below: bound}} or "
                    f"{{shift: s, negative: value}}, not {rule}"
                )
        self.any_log = bool(log)
        self.register_buffer("marked", marked.bool())
        self.register_buffer("negative", negative)
        self.register_buffer("logged", logged.bool())
        self.register_buffer("log_sign", sign)
        self.register_buffer("log_offset", offset)

    def _logarithms(self, x: Tensor) -> Tensor:
        if not self.any_log:
            return x
        logarithm = (x * self.log_sign + self.log_offset).clamp_min(SMALLEST).log()
        marked = (x < 0) & self.marked
        taken: Tensor = torch.where(marked, self.negative, torch.where(self.logged, logarithm, x))
        return taken

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set the scale from training events, shape (n, f).  A feature without spread is only shifted.

        Event weights have no part in it: it only brings the numbers to order one.
        """
        if not x.numel():
            return
        x = self._logarithms(x).double()
        if self.scale == "standard":
            self._set(x.mean(0), x.std(0))
        elif self.scale == "robust":
            low, middle, high = _quantiles(x, (0.25, 0.5, 0.75))
            self._set(middle, (high - low) / 1.349)
        elif self.principal is not None:
            self._set(x.mean(0), x.std(0))
            self.principal.fit((x - self.shift) * self.slope)
        elif self.scale == "quantile":
            self._set(x.mean(0), x.std(0))
            self._fit_knots((x - self.shift) * self.slope)

    def _set(self, shift: Tensor, spread: Tensor) -> None:
        tiny = 1e-9 + 1e-6 * shift.abs()  # float32 noise on a constant is no spread
        spread = torch.where(spread > tiny, spread, torch.ones_like(spread))
        self.shift.copy_(shift)
        self.slope.copy_(1 / spread)

    def _fit_knots(self, x: Tensor) -> None:
        count = len(self.edges)
        at = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        target = torch.special.ndtri(at)
        edges = torch.stack(_quantiles(x, at.tolist()))
        # Ties make steps without width: spread them a little, or one event would jump over many knots.
        floor = 1e-3 * torch.arange(count, dtype=torch.float64)[:, None]
        edges = torch.cummax(edges.cpu() + 1e-9 * floor, 0)[0]
        width = (edges[1:] - edges[:-1]).clamp_min(1e-3)
        self.edges.copy_(torch.cat([edges[:1], edges[:1] + width.cumsum(0)]))
        self.rises.copy_((target[1:] - target[:-1])[:, None] / width)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (..., f), finite for finite x."""
        x = (self._logarithms(x) - self.shift) * self.slope
        if self.scale == "quantile":
            x = self._through_knots(x)
        if self.principal is not None:
            x = self.principal(x)
        return x.clamp(-self.clip, self.clip) if self.clip else x

    def _through_knots(self, x: Tensor) -> Tensor:
        # A sum of clamped ramps instead of a search, which ONNX does not have; straight on outside.
        inside = (x.unsqueeze(-2) - self.edges[:-1]).clamp_min(0)
        inside = torch.minimum(inside, self.edges[1:] - self.edges[:-1])
        start = NormalDist().inv_cdf(0.5 / len(self.edges))
        outside = (x - self.edges[0]).clamp_max(0) + (x - self.edges[-1]).clamp_min(0)
        gaussian: Tensor = (inside * self.rises).sum(-2) + start + outside
        return gaussian


def read_inputs(features: Sequence[str], spec: Mapping[str, Any] | None, *, where: str = "inputs") -> Inputs:
    """Inputs as a block of YAML describes them."""
    try:
        made = Inputs(features, **(spec or {}))
    except TypeError as err:
        raise InputError(
            f"network {where}: {err}; known are scale, clip, log, knots, within, bins, interpolate"
        ) from None
    if made.principal is not None and where != "inputs":
        raise InputError(f"network {where}: 'scale: pca' is for the features of a row alone")
    return made


def _quantiles(x: Tensor, at: Sequence[float]) -> list[Tensor]:
    ordered = x.sort(0)[0]
    place = torch.tensor(list(at), dtype=torch.float64, device=x.device) * (len(x) - 1)
    low = place.floor().long()
    part = (place - low)[:, None]
    high = (low + 1).clamp_max(len(x) - 1)
    return list(ordered[low] * (1 - part) + ordered[high] * part)
