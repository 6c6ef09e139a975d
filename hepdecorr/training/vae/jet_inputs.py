"""What an autoencoder of jets is given of a row: the jet in its frame, scaled, and what it is told beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hepdecorr import registry
from hepdecorr.errors import InputError, located, suggest
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.data.layout import RowPacking
from hepdecorr.training.networks.jet_frame import JetFrame
from hepdecorr.training.networks.preprocessing import build_preprocessor

DEFAULT_NUM_CONSTITUENTS = 20  # constituents that the paper looks at


class JetInputs(NamedTuple):
    """n jets as the network sees them."""

    x: Tensor  # (n, length, 4): scaled E, px, py, pz
    mask: Tensor  # (n, length), bool
    condition: Tensor | None  # (n, k), scaled; None where nothing is told beside
    is_valid: Tensor  # (n,), bool: at least two constituents with momentum


class JetPreprocessor(nn.Module):
    """Raw rows to Jets; and Jets to flat rows, in which events are kept while a network is trained.

    frame: arguments of JetFrame.  condition: names of features of a row that are told beside, scaled by
    Inputs with the arguments `inputs`.  per: how the network wants JetFrame to scale, unless `frame` says.
    """

    def __init__(
        self,
        features: Sequence[str],
        constituents: Sequence[str],
        length: int,
        *,
        frame: Mapping[str, Any] | None = None,
        condition: Sequence[str] = (),
        inputs: Mapping[str, Any] | None = None,
        scale_per: str = "slot",
    ) -> None:
        super().__init__()
        names = _parse_condition(condition)
        for name in names:
            if name not in features:
                raise InputError(f"condition: no feature {name!r}{suggest(name, features)}")
        if unused := [name for name in features if name not in names]:
            raise InputError(
                f"JetVAE looks at constituents, and at no feature of a row that 'condition' does not name, "
                f"as {unused[0]!r}: write 'features: [{', '.join(names)}]' in its block"
            )
        self.packing, self.condition_names = RowPacking(tuple(features), tuple(constituents), length), names
        self._condition_columns = [list(features).index(name) for name in names]
        if not isinstance(frame, Mapping | None):
            raise InputError(f"frame must be as {{length: 20, boost: rest}}, not {frame!r}")
        if inputs and not names:
            raise InputError(
                "inputs: they scale what 'condition' names, which is nothing; leave 'inputs' out"
            )
        own = {"length": min(DEFAULT_NUM_CONSTITUENTS, length), "scale_per": scale_per, **(frame or {})}
        with located("frame"):
            self.frame: JetFrame = registry.build(
                {"type": "JetFrame", **own}, namespace=JetFrame.__module__, constituents=list(constituents)
            )
        if self.length > length:
            raise InputError(
                f"frame: length {self.length} exceeds the {length} constituents that the tagger is given; "
                "give 'length' of the tagger, and of 'constituents', as many"
            )
        self.inputs = build_preprocessor(names, inputs)

    @property
    def length(self) -> int:
        """Constituents of a jet."""
        return self.frame.length

    @property
    def settings(self) -> dict[str, Any]:
        """How jets are looked at, as far as no shape of a scaling tells it."""
        frame = {name: getattr(self.frame, name) for name in ("boost", "rotate", "scale", "scale_per")}
        return frame | {"condition": list(self.condition_names)}

    @property
    def flat_columns(self) -> list[str]:
        """Names of the columns of flat rows."""
        numbers = [f"{c}_{k}" for k in range(self.length) for c in ("e", "px", "py", "pz")]
        return [*numbers, *(f"there_{k}" for k in range(self.length)), *self.condition_names, "good"]

    @property
    def scaled_zero(self) -> Tensor:
        """A four-vector of zero, scaled: (length, 4), or (1, 4) where all slots share their scale."""
        return -self.frame.centre / self.frame.spread

    def fit(self, batch: Batch) -> None:
        """Set the scalings from background events."""
        features, constituents, mask = self.packing.unpack(batch.x)
        self.frame.fit(constituents, mask, batch.w.clamp_min(0))
        self.inputs.fit(features[:, self._condition_columns])

    def forward(self, x: Tensor) -> tuple[JetInputs, Tensor]:
        """Jets of raw rows (n, width), and their momenta in GeV in the frame, (n, length, 4)."""
        features, constituents, mask = self.packing.unpack(x)
        framed = self.frame(constituents, mask)
        given = self.inputs(features[:, self._condition_columns]) if self._condition_columns else None
        return JetInputs(framed.x, framed.mask, given, framed.is_valid), framed.momenta

    def flatten(self, x: Tensor) -> Tensor:
        """Flat rows of raw ones."""
        jets = self(x)[0]
        parts = [jets.x.flatten(1), jets.mask.to(x.dtype), jets.is_valid[:, None].to(x.dtype)]
        if jets.condition is not None:
            parts.insert(2, jets.condition)
        return torch.cat(parts, 1)

    def unflatten(self, flat: Tensor) -> JetInputs:
        """Jets of flat rows."""
        count = self.length
        x = flat[:, : 4 * count].unflatten(1, (count, 4))
        given = flat[:, 5 * count : -1] if self._condition_columns else None
        return JetInputs(x, flat[:, 4 * count : 5 * count] > 0.5, given, flat[:, -1] > 0.5)


def _parse_condition(condition: Any) -> tuple[str, ...]:
    names = (condition,) if isinstance(condition, str) else condition
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise InputError(f"condition must name features of a row, as [jet_mass], not {condition!r}")
    return tuple(names)
