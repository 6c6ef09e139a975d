"""The columnar half: ROOT events in; training tables, scores and histograms out.  It never imports torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hepdecorr.columnar.first_pass import group_codes as group_codes
    from hepdecorr.columnar.groups import GroupCodes as GroupCodes

# On first use: a part of this half is often wanted without the others.
_HOMES = {"GroupCodes": "groups", "group_codes": "first_pass"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"hepdecorr.columnar.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'hepdecorr.columnar' has no attribute {name!r}")
