"""numba's compiler as it is used here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

# Sums may be reordered and fused, so that they vectorise; NaN and infinity keep their meaning, because
# "not finite" is how a bad input is found.
_FASTMATH = {"reassoc", "contract", "nsz"}


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function as machine code: compiled at its first call, without the GIL, kept on disk.

    What is kept knows its own file only: a compiled function of another file that it calls, and constants
    from there, are those of the day it was compiled.  Change one of those and clear __pycache__.

    Where no folder can be written (a sandboxed worker) it is compiled once per process instead.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": _FASTMATH, "error_model": "numpy"}
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError as err:
        logger.info("compiled code is not kept: %s", err)
        made = numba.njit(**options)(function)
    return cast("Callable[P, R]", made)
