"""The columnar half: ROOT events in; training tables, scores and histograms out.  It never imports torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hepdecorr.columnar.group_code_runner import compute_group_codes as compute_group_codes
    from hepdecorr.columnar.group_codes import GroupCodes as GroupCodes

# On first use: a part of this half is often wanted without the others.
_LAZY_IMPORTS = {"GroupCodes": "group_codes", "compute_group_codes": "group_code_runner"}


def __getattr__(name: str) -> Any:
    if name in _LAZY_IMPORTS:
        return getattr(importlib.import_module(f"hepdecorr.columnar.{_LAZY_IMPORTS[name]}"), name)
    raise AttributeError(f"module 'hepdecorr.columnar' has no attribute {name!r}")
