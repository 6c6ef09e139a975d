"""A network as YAML names it, told what its inputs are."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from hepdecorr import registry
from hepdecorr.errors import InputError, located

NETWORKS_MODULE = "hepdecorr.training.networks"


def build_network(
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
        make = registry.find(name, namespace=NETWORKS_MODULE, base=base)
        parameters = inspect.signature(make).parameters.values() if callable(make) else ()
        if not any(p.name == "constituents" or p.kind is p.VAR_KEYWORD for p in parameters):
            raise InputError(
                f"network {name} takes no constituents; give it the argument 'constituents', or write "
                "'constituents: []' in the tagger's block"
            )
    with located("network"):
        built: nn.Module = registry.build(
            spec,
            namespace=NETWORKS_MODULE,
            base=base,
            features=list(features),
            constituents=list(constituents),
            length=length,
            outputs=outputs,
        )
    return built
