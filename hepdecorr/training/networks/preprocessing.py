"""Features with the same mean and covariance at every value of one of them.

Preprocessing of raw features as a layer, so that it travels inside the exported graph.

The inputs of networks over constituents: preprocessing of features and of constituents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.data.layout import RowPacking, UnpackedRows

MIN_EIGENVALUE = 1e-3  # of a standardised feature's variance: directions with less are not blown up


class ConditionalWhitening(nn.Module):
    """Principal components in `bins` of feature number `within`, brought to mean 0 and covariance 1 in each.

    Aguilar-Saavedra, Collins, Mishra, JHEP 11 (2017) 163, and Bradshaw, Mishra, Mitridate, Ostdiek, SciPost
    Phys. 8 (2020) 011: what is left of the features says nothing of that one to second order.  In each bin
    they are standardised, rotated to their principal components, scaled and rotated back, C^(-1/2) (x - m).
    Without the way back the axes of neighbouring bins would differ by signs, and nothing could be
    interpolated.  Feature `within` itself becomes 0.  With `interpolate` mean and matrix change linearly
    between the bins' medians, without it in steps.
    """

    bin_positions: Tensor
    whitening_matrices: Tensor
    offsets: Tensor

    def __init__(self, num_features: int, *, conditioning_index: int, bins: int, interpolate: bool) -> None:
        super().__init__()
        self.conditioning_index, self.bins, self.interpolate = conditioning_index, bins, interpolate
        self.register_buffer(
            "bin_positions", torch.arange(bins, dtype=torch.float32)
        )  # medians, or lower edges
        self.register_buffer("whitening_matrices", torch.eye(num_features).repeat(bins, 1, 1))
        self.register_buffer("offsets", torch.zeros(bins, num_features))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """From events (n, features), each feature of deviation about one; InputError for too few of them."""
        n, f = x.shape
        if n < self.bins * (f + 10):
            raise InputError(
                f"inputs: {n} events for a covariance of {f} features in each of {self.bins} bins; take "
                "fewer bins or more events"
            )
        order = x[:, self.conditioning_index].argsort()
        parts = [x[rows].double() for rows in order.tensor_split(self.bins)]
        medians = torch.stack([part[:, self.conditioning_index].median() for part in parts])
        lowest = torch.stack([part[:, self.conditioning_index].min() for part in parts])
        if (medians.diff() <= 0).any() or (lowest.diff() <= 0).any():
            raise InputError("inputs: feature 'within' has too few different values for so many bins")
        self.bin_positions.copy_(medians if self.interpolate else lowest)
        for k, part in enumerate(parts):
            matrix = _whitening_matrix(part, excluded_index=self.conditioning_index)
            self.whitening_matrices[k] = matrix
            self.offsets[k] = part.mean(0) @ matrix

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, features)."""
        share = self._bin_weights(x[:, self.conditioning_index])
        f = x.shape[1]
        # All bins at once, and then their sum: gathering a matrix for each event would take more memory.
        every = (x @ self.whitening_matrices.transpose(0, 1).reshape(f, -1)).view(
            -1, self.bins, f
        ) - self.offsets
        found: Tensor = (share[..., None] * every).sum(1)
        return found

    def _bin_weights(self, z: Tensor) -> Tensor:
        """How much each bin has to say, (n, bins): hats between the medians, or 1 for the bin itself."""
        above = z[:, None] - self.bin_positions
        if self.interpolate:
            risen = (above[:, :-1] / (self.bin_positions[1:] - self.bin_positions[:-1])).clamp(0, 1)
        else:
            risen = (above[:, 1:] >= 0).to(z.dtype)
        edge = torch.ones_like(z)[:, None]  # len(z) would fix the number of rows of an exported graph
        return torch.cat([edge, risen], 1) - torch.cat([risen, 0 * edge], 1)


def scaling_sample(network: nn.Module, batch: Batch) -> Batch:
    """The events that the inputs of a network are scaled by.

    For principal components background alone, each event as often as its weight says: it is the weighted
    spectrum that a tagger must not sculpt.
    """
    if not any(isinstance(part, ConditionalWhitening) for part in network.modules()):
        return batch
    own = batch.take(batch.y == 0)
    w = own.w.double().clamp_min(0)
    if not w.sum() > 0 or w.min() == w.max():
        return own
    # In equal steps, not by lot: no event is there more than once too often or too rarely.
    steps = (torch.arange(len(w), dtype=w.dtype, device=w.device) + 0.5) / len(w)
    grown = w.cumsum(0)
    return own.take(torch.searchsorted(grown, steps * grown[-1]).clamp_max(len(w) - 1))


def _whitening_matrix(bin_features: Tensor, *, excluded_index: int) -> Tensor:
    """C^(-1/2) of the features but one, whose row and column are 0."""
    matrix = bin_features.new_zeros(bin_features.shape[1], bin_features.shape[1])
    kept = torch.arange(bin_features.shape[1], device=bin_features.device) != excluded_index
    values, vectors = torch.linalg.eigh(bin_features[:, kept].T.cov())
    inverse = vectors @ torch.diag(values.clamp_min(MIN_EIGENVALUE) ** -0.5) @ vectors.T
    matrix[kept.nonzero(), kept.nonzero().T] = inverse
    return matrix


SCALES = ("standard", "robust", "quantile", "pca", "none")
MIN_LOG_ARGUMENT = 1e-6  # a logarithm's argument is clamped here, so that no event gives NaN


class FeaturePreprocessor(nn.Module):
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
    is_log: Tensor
    has_negative_value: Tensor
    negative_value: Tensor
    knot_positions: Tensor
    knot_slopes: Tensor

    def __init__(
        self,
        features: Sequence[str],
        *,
        scale: str = "standard",
        clip: float = 6.0,
        log: Mapping[str, Any] | None = None,
        knots: int = 20,
        in_bins_of: str = "",
        bins: int = 20,
        interpolate: bool = True,
    ) -> None:
        super().__init__()
        if scale not in SCALES:
            raise InputError(f"inputs: no scale {scale!r}{suggest(scale, SCALES)}")
        if clip < 0 or knots < 3:
            raise InputError("inputs: clip cannot be negative and knots must be at least 3")
        if (scale == "pca") != bool(in_bins_of) or bins < 2:
            raise InputError(
                "inputs: 'scale: pca' needs 'within', a feature in bins (2 at least) of which it is done; no "
                "other scale takes it"
            )
        if in_bins_of and in_bins_of not in features:
            raise InputError(
                f"inputs: within {in_bins_of!r}, which is no feature{suggest(in_bins_of, features)}"
            )
        self.scale, self.clip = scale, float(clip)
        self.whitening = (
            ConditionalWhitening(
                len(features),
                conditioning_index=list(features).index(in_bins_of),
                bins=bins,
                interpolate=interpolate,
            )
            if in_bins_of
            else None
        )
        self._parse_log_rules(list(features), dict(log or {}))
        count = len(features)
        self.register_buffer("shift", torch.zeros(count))
        self.register_buffer("slope", torch.ones(count))
        inner = knots if scale == "quantile" else 0
        self.register_buffer("knot_positions", torch.zeros(inner, count))
        self.register_buffer("knot_slopes", torch.zeros(max(0, inner - 1), count))

    def _parse_log_rules(self, features: list[str], log: Mapping[str, Any]) -> None:
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
        self.has_log = bool(log)
        self.register_buffer("has_negative_value", marked.bool())
        self.register_buffer("negative_value", negative)
        self.register_buffer("is_log", logged.bool())
        self.register_buffer("log_sign", sign)
        self.register_buffer("log_offset", offset)

    def _apply_log(self, x: Tensor) -> Tensor:
        if not self.has_log:
            return x
        logarithm = (x * self.log_sign + self.log_offset).clamp_min(MIN_LOG_ARGUMENT).log()
        marked = (x < 0) & self.has_negative_value
        taken: Tensor = torch.where(marked, self.negative_value, torch.where(self.is_log, logarithm, x))
        return taken

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set the scale from training events, shape (n, f).  A feature without spread is only shifted.

        Event weights have no part in it: it only brings the numbers to order one.
        """
        if not x.numel():
            return
        x = self._apply_log(x).double()
        if self.scale == "standard":
            self._set_shift_and_slope(x.mean(0), x.std(0))
        elif self.scale == "robust":
            low, middle, high = _column_quantiles(x, (0.25, 0.5, 0.75))
            self._set_shift_and_slope(middle, (high - low) / 1.349)
        elif self.whitening is not None:
            self._set_shift_and_slope(x.mean(0), x.std(0))
            self.whitening.fit((x - self.shift) * self.slope)
        elif self.scale == "quantile":
            self._set_shift_and_slope(x.mean(0), x.std(0))
            self._fit_knots((x - self.shift) * self.slope)

    def _set_shift_and_slope(self, shift: Tensor, spread: Tensor) -> None:
        tiny = 1e-9 + 1e-6 * shift.abs()  # float32 noise on a constant is no spread
        spread = torch.where(spread > tiny, spread, torch.ones_like(spread))
        self.shift.copy_(shift)
        self.slope.copy_(1 / spread)

    def _fit_knots(self, x: Tensor) -> None:
        count = len(self.knot_positions)
        at = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        target = torch.special.ndtri(at)
        edges = torch.stack(_column_quantiles(x, at.tolist()))
        # Ties make steps without width: spread them a little, or one event would jump over many knots.
        floor = 1e-3 * torch.arange(count, dtype=torch.float64)[:, None]
        edges = torch.cummax(edges.cpu() + 1e-9 * floor, 0)[0]
        width = (edges[1:] - edges[:-1]).clamp_min(1e-3)
        self.knot_positions.copy_(torch.cat([edges[:1], edges[:1] + width.cumsum(0)]))
        self.knot_slopes.copy_((target[1:] - target[:-1])[:, None] / width)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (..., f), finite for finite x."""
        x = (self._apply_log(x) - self.shift) * self.slope
        if self.scale == "quantile":
            x = self._apply_knots(x)
        if self.whitening is not None:
            x = self.whitening(x)
        return x.clamp(-self.clip, self.clip) if self.clip else x

    def _apply_knots(self, x: Tensor) -> Tensor:
        # A sum of clamped ramps instead of a search, which ONNX does not have; straight on outside.
        inside = (x.unsqueeze(-2) - self.knot_positions[:-1]).clamp_min(0)
        inside = torch.minimum(inside, self.knot_positions[1:] - self.knot_positions[:-1])
        start = NormalDist().inv_cdf(0.5 / len(self.knot_positions))
        outside = (x - self.knot_positions[0]).clamp_max(0) + (x - self.knot_positions[-1]).clamp_min(0)
        gaussian: Tensor = (inside * self.knot_slopes).sum(-2) + start + outside
        return gaussian


def build_preprocessor(
    features: Sequence[str], spec: Mapping[str, Any] | None, *, where: str = "inputs"
) -> FeaturePreprocessor:
    """Inputs as a block of YAML describes them."""
    try:
        made = FeaturePreprocessor(features, **(spec or {}))
    except TypeError as err:
        raise InputError(
            f"network {where}: {err}; known are scale, clip, log, knots, within, bins, interpolate"
        ) from None
    if made.whitening is not None and where != "inputs":
        raise InputError(f"network {where}: 'scale: pca' is for the features of a row alone")
    return made


def _column_quantiles(x: Tensor, probabilities: Sequence[float]) -> list[Tensor]:
    ordered = x.sort(0)[0]
    place = torch.tensor(list(probabilities), dtype=torch.float64, device=x.device) * (len(x) - 1)
    low = place.floor().long()
    part = (place - low)[:, None]
    high = (low + 1).clamp_max(len(x) - 1)
    return list(ordered[low] * (1 - part) + ordered[high] * part)


MAX_SCALING_CONSTITUENTS = 1_000_000  # constituents that a scaling is fitted on


class ConstituentPreprocessor(nn.Module):
    """Raw rows (n, width) to scaled features, scaled constituents that are zero in the padding, and mask.

    inputs, constituent_inputs: arguments of Inputs for the two kinds of features.
    """

    def __init__(
        self,
        features: Sequence[str],
        constituents: Sequence[str],
        length: int,
        *,
        inputs: Mapping[str, Any] | None = None,
        constituent_inputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.packing = RowPacking(tuple(features), tuple(constituents), length)
        self.feature_preprocessor = build_preprocessor(features, inputs)
        self.constituent_preprocessor = build_preprocessor(
            constituents, constituent_inputs, where="constituent_inputs"
        )

    def fit(self, x: Tensor) -> None:
        """Set the scalings from training events, shape (n, width), of which not all may be needed."""
        features, constituents, mask = self.packing.unpack(x)
        self.feature_preprocessor.fit(features)
        if self.packing.constituents:
            self.constituent_preprocessor.fit(subsample_filled(constituents, mask))

    def unpack_rows(self, x: Tensor) -> UnpackedRows:
        """The parts of raw rows, without slots that no row fills."""
        features, constituents, mask = self.packing.unpack(x)
        return UnpackedRows(features, *crop_padding(constituents, mask))

    def scale(self, unpacked: UnpackedRows) -> UnpackedRows:
        """Finite for finite features and constituents."""
        features, constituents, mask = (
            self.feature_preprocessor(unpacked.features),
            unpacked.constituents,
            unpacked.mask,
        )
        if self.packing.constituents:
            constituents = torch.where(mask[..., None], self.constituent_preprocessor(constituents), 0.0)
        return UnpackedRows(features, constituents, mask)

    def forward(self, x: Tensor) -> UnpackedRows:
        """Scaled parts of raw rows."""
        return self.scale(self.unpack_rows(x))


def require_constituents(constituents: Sequence[str], *, network_name: str) -> None:
    """InputError where a network over constituents has none."""
    if not constituents:
        raise InputError(
            f"{network_name} works on constituents: give 'constituents' and their features in the "
            "config, and not "
            "'constituents: []' in the tagger's block; on row features alone works MLP"
        )


def subsample_filled(constituents: Tensor, mask: Tensor) -> Tensor:
    """Features of about a million constituents at most, shape (m, c), from all over the rows."""
    step = 1 + mask.numel() // MAX_SCALING_CONSTITUENTS
    return constituents[::step][mask[::step]]


def crop_padding(constituents: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Without the slots behind the last one that any of the rows fills; an exported graph keeps them."""
    if torch.compiler.is_exporting() or not mask.numel():
        return constituents, mask
    filled = mask.any(0).nonzero()
    length = int(filled[-1]) + 1 if len(filled) else 1
    return constituents[:, :length], mask[:, :length]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the constituents there are of values (n, L, d), shape (n, d); 0 where there are none."""
    weight = mask.to(values.dtype)
    total = torch.einsum("nl,nld->nd", weight, values)
    return total / weight.sum(1, keepdim=True).clamp_min(1)


def attention_pool(values: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (n, L, d), and means weighted by a softmax of scores (n, L, h): (n, (1 + h) d)."""
    there = mask[..., None]
    share = there / there.sum(1, keepdim=True).clamp_min(1)
    if scores.shape[2]:
        chosen = torch.where(there, scores, -1e9).softmax(1)
        share = torch.cat([share, torch.where(there, chosen, 0.0)], 2)
    return (share.transpose(1, 2) @ values).flatten(1)
