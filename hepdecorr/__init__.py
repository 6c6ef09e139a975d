"""Decorrelated taggers for columnar HEP analysis."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hepdecorr.card import Card as Card
    from hepdecorr.columnar.tagger import OnnxTagger as OnnxTagger
    from hepdecorr.errors import InputError as InputError
    from hepdecorr.table import Table as Table

# Imported on first use: a worker that applies a tagger never pays for torch, nor a training node for coffea.
_HOMES = {
    "Card": "hepdecorr.card",
    "InputError": "hepdecorr.errors",
    "OnnxTagger": "hepdecorr.columnar.tagger",
    "Table": "hepdecorr.table",
}

__all__ = ["Card", "InputError", "OnnxTagger", "Table", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hepdecorr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
