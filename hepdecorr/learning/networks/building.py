"""A network as YAML names it, told what its inputs are."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from hepdecorr import catalogue
from hepdecorr.errors import InputError

HOME = "hepdecorr.learning.networks"


def network(
    spec: Mapping[str, Any] | str,
    *,
    features: Sequence[str],
    constituents: Sequence[str] = (),
    length: int = 0,
    outputs: int = 1,
    base: Path | None = None,
) -> nn.Module:
    """The network of the block `network: {type: ...}`.

    Raises InputError, too, for one of the user's that takes no `constituents` where there are some.
    """
    if constituents:
        name = spec if isinstance(spec, str) else str(spec.get("type"))
        make = catalogue.find(name, home=HOME, base=base)
        parameters = inspect.signature(make).parameters.values() if callable(make) else ()
        if not any(p.name == "constituents" or p.kind is p.VAR_KEYWORD for p in parameters):
            raise InputError(
                f"network {name} takes no constituents; give it the argument 'constituents', or write "
                "'constituents: []' in the tagger's block"
            )
    built: nn.Module = catalogue.build(
        spec,
        home=HOME,
        base=base,
        features=list(features),
        constituents=list(constituents),
        length=length,
        outputs=outputs,
    )
    return built
