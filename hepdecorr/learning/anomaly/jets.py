"""What an autoencoder of jets is given of a row: the jet in its frame, scaled, and what it is told beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.form import Form
from hepdecorr.learning.networks.inputs import read_inputs
from hepdecorr.learning.networks.jet_frame import JetFrame

LENGTH = 20  # constituents that the paper looks at


class Jets(NamedTuple):
    """n jets as the network sees them."""

    x: Tensor  # (n, length, 4): scaled E, px, py, pz
    mask: Tensor  # (n, length), bool
    given: Tensor | None  # (n, k), scaled; None where nothing is told beside
    good: Tensor  # (n,), bool: at least two constituents with momentum


class Framing(nn.Module):
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
        per: str = "slot",
    ) -> None:
        super().__init__()
        names = _names(condition)
        for name in names:
            if name not in features:
                raise InputError(f"condition: no feature {name!r}{catalogue.suggest(name, features)}")
        if unused := [name for name in features if name not in names]:
            raise InputError(
                f"JetVAE looks at constituents, and at no feature of a row that 'condition' does not name, "
                f"as {unused[0]!r}: write 'features: [{', '.join(names)}]' in its block"
            )
        self.form, self.names = Form(tuple(features), tuple(constituents), length), names
        self._columns = [list(features).index(name) for name in names]
        if not isinstance(frame, Mapping | None):
            raise InputError(f"frame must be as {{length: 20, boost: rest}}, not {frame!r}")
        if inputs and not names:
            raise InputError(
                "inputs: they scale what 'condition' names, which is nothing; leave 'inputs' out"
            )
        own = {"length": min(LENGTH, length), "per": per, **(frame or {})}
        self.frame: JetFrame = catalogue.build(
            {"type": "JetFrame", **own}, home=JetFrame.__module__, constituents=list(constituents)
        )
        if self.length > length:
            raise InputError(
                f"frame: length {self.length} exceeds the {length} constituents that the tagger is given; "
                "give 'length' of the tagger, and of 'constituents', as many"
            )
        self.inputs = read_inputs(names, inputs)

    @property
    def length(self) -> int:
        """Constituents of a jet."""
        return self.frame.length

    @property
    def settings(self) -> dict[str, Any]:
        """How jets are looked at, as far as no shape of a scaling tells it."""
        frame = {name: getattr(self.frame, name) for name in ("boost", "rotate", "scale", "per")}
        return frame | {"condition": list(self.names)}

    @property
    def columns(self) -> list[str]:
        """Names of the columns of flat rows."""
        numbers = [f"{c}_{k}" for k in range(self.length) for c in ("e", "px", "py", "pz")]
        return [*numbers, *(f"there_{k}" for k in range(self.length)), *self.names, "good"]

    @property
    def nothing(self) -> Tensor:
        """A four-vector of zero, scaled: (length, 4), or (1, 4) where all slots share their scale."""
        return -self.frame.centre / self.frame.spread

    def fit(self, b: Batch) -> None:
        """Set the scalings from background events."""
        features, constituents, mask = self.form.unpack(b.x)
        self.frame.fit(constituents, mask, b.w.clamp_min(0))
        self.inputs.fit(features[:, self._columns])

    def forward(self, x: Tensor) -> tuple[Jets, Tensor]:
        """Jets of raw rows (n, width), and their momenta in GeV in the frame, (n, length, 4)."""
        features, constituents, mask = self.form.unpack(x)
        framed = self.frame(constituents, mask)
        given = self.inputs(features[:, self._columns]) if self._columns else None
        return Jets(framed.x, framed.mask, given, framed.good), framed.momenta

    def flat(self, x: Tensor) -> Tensor:
        """Flat rows of raw ones."""
        jets = self(x)[0]
        parts = [jets.x.flatten(1), jets.mask.to(x.dtype), jets.good[:, None].to(x.dtype)]
        if jets.given is not None:
            parts.insert(2, jets.given)
        return torch.cat(parts, 1)

    def jets(self, flat: Tensor) -> Jets:
        """Jets of flat rows."""
        count = self.length
        x = flat[:, : 4 * count].unflatten(1, (count, 4))
        given = flat[:, 5 * count : -1] if self._columns else None
        return Jets(x, flat[:, 4 * count : 5 * count] > 0.5, given, flat[:, -1] > 0.5)


def _names(condition: Any) -> tuple[str, ...]:
    names = (condition,) if isinstance(condition, str) else condition
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise InputError(f"condition must name features of a row, as [jet_mass], not {condition!r}")
    return tuple(names)
