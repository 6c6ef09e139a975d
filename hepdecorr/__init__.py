"""Decorrelated taggers for columnar HEP analysis."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hepdecorr.columnar.tagger import OnnxTagger as OnnxTagger
    from hepdecorr.errors import InputError as InputError
    from hepdecorr.model_card import ModelCard as ModelCard
    from hepdecorr.table import Table as Table

# Imported on first use: a worker that applies a tagger never pays for torch, nor a training node for coffea.
_LAZY_IMPORTS = {
    "ModelCard": "hepdecorr.model_card",
    "InputError": "hepdecorr.errors",
    "OnnxTagger": "hepdecorr.columnar.tagger",
    "Table": "hepdecorr.table",
}

__all__ = ["InputError", "ModelCard", "OnnxTagger", "Table", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _LAZY_IMPORTS:
        return getattr(importlib.import_module(_LAZY_IMPORTS[name]), name)
    raise AttributeError(f"module 'hepdecorr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY_IMPORTS})
