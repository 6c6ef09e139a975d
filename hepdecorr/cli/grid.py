"""What a scan goes over: values of keys of a tagger's block, and all their combinations."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hepdecorr.catalogue import suggest
from hepdecorr.document import read_values, written
from hepdecorr.errors import InputError

MOST = 500  # points of one scan
RANGES = ("lin", "log")


@dataclass(frozen=True)
class Over:
    """A key of the tagger's block, such as terms.0.strength, and the values that it takes."""

    key: str
    values: tuple[Any, ...]

    @classmethod
    def read(cls, text: str, *, tagger: str) -> Over:
        """From KEY=1,2,5, KEY=log:LOW:HIGH:COUNT or KEY=lin:LOW:HIGH:COUNT; InputError says what is wrong."""
        key, equals, given = text.partition("=")
        # The key may also be given from the top of the config.
        key = key.strip().removeprefix(f"taggers.{tagger}.")
        if not equals or not given.strip() or not all(key.split(".")):
            raise InputError(f"--over {text!r}: write KEY=VALUES, such as terms.0.strength=1,2,5")
        try:
            values = _range(given) if ":" in given.partition(",")[0].partition("{")[0] else read_values(given)
        except InputError as err:
            raise InputError(f"--over {text!r}: {err}") from None
        told = [written(value) for value in values]
        if twice := [one for one in told if told.count(one) > 1]:
            raise InputError(f"--over {text!r}: {twice[0]} stands there twice")
        return cls(key, tuple(values))

    @property
    def title(self) -> str:
        """The last word of the key."""
        return self.key.split(".")[-1]


@dataclass(frozen=True)
class Point:
    """One combination: a value for each key."""

    values: tuple[tuple[str, Any], ...]

    def overrides(self, tagger: str) -> tuple[str, ...]:
        """As `--set` takes them."""
        return tuple(f"taggers.{tagger}.{key}={written(value)}" for key, value in self.values)

    def label(self, titles: dict[str, str]) -> str:
        """For people: 'strength = 5, epochs = 8'."""
        return ", ".join(f"{titles[key]} = {written(value)}" for key, value in self.values)

    def slug(self, titles: dict[str, str]) -> str:
        """For a folder; the digest keeps apart what looks alike."""
        words = "_".join(f"{titles[key]}-{written(value)}" for key, value in self.values)
        whole = hashlib.sha256(repr(self.overrides("")).encode()).hexdigest()[:8]
        return f"{re.sub(r'[^A-Za-z0-9.+-]+', '_', words).strip('_')[:80]}.{whole}"


def points(overs: Sequence[Over]) -> list[Point]:
    """All combinations, the last key changing fastest; InputError for a key that stands twice or too many."""
    keys = [over.key for over in overs]
    if not keys:
        raise InputError("--over: give at least one, such as --over terms.0.strength=1,2,5")
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise InputError(f"--over {twice[0]}: stands there twice; write all its values in one")
    found = [
        Point(tuple(zip(keys, chosen, strict=True)))
        for chosen in itertools.product(*(over.values for over in overs))
    ]
    if len(found) > MOST:
        raise InputError(f"--over: {len(found)} points, more than {MOST}; take fewer values")
    return found


def titles(overs: Sequence[Over]) -> dict[str, str]:
    """A short name for each key: its last word, or the whole where that would be ambiguous."""
    short = [over.title for over in overs]
    return {over.key: over.key if short.count(over.title) > 1 else over.title for over in overs}


def seeds(text: str) -> list[int]:
    """From '1,2,3' or '1:5'; InputError for what are not different whole numbers."""
    first, colon, last = text.partition(":")
    if colon and first.strip().isdigit() and last.strip().isdigit() and int(first) <= int(last):
        return list(range(int(first), int(last) + 1))
    try:
        # YAML 1.1 takes 5:2 for five minutes and two seconds.
        found = [] if colon else read_values(text)
    except InputError:
        found = []
    if not found or not all(type(one) is int and one >= 0 for one in found) or len(set(found)) < len(found):
        raise InputError(f"--seeds {text!r}: write different whole numbers, such as 1,2,3 or 1:5")
    return found


def _range(text: str) -> list[Any]:
    kind, *ends = (part.strip() for part in text.split(":"))
    if kind not in RANGES:
        raise InputError(f"no range {kind!r}{suggest(kind, RANGES)}; write log:LOW:HIGH:COUNT")
    try:
        low, high = float(ends[0]), float(ends[1])
        count = int(ends[2])
    except (ValueError, IndexError):
        raise InputError(f"write {kind}:LOW:HIGH:COUNT, such as {kind}:0.1:100:10") from None
    if len(ends) > 3 or count < 2 or not np.isfinite([low, high]).all() or low == high:
        raise InputError(f"write {kind}:LOW:HIGH:COUNT with two different ends and a COUNT of at least 2")
    if kind == "log" and min(low, high) <= 0:
        raise InputError("a logarithmic range needs both ends above zero; use lin, or list the values")
    steps = np.geomspace(low, high, count) if kind == "log" else np.linspace(low, high, count)
    values = [float(f"{value:.6g}") for value in steps]
    # Whole ends without a point ask for whole numbers, such as latents, where all steps are whole.
    whole = all(re.fullmatch(r"-?\d+", end) for end in ends[:2]) and all(v.is_integer() for v in values)
    return [int(value) for value in values] if whole else values
