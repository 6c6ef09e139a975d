"""What a report says of groups of events, such as runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hepdecorr.validation.measures import ByGroup, Grouped, Recovered, Steadier
from hepdecorr.validation.measures.numbers import Array
from hepdecorr.validation.measures.recovered import Mapped

SHOWN = 0.95
ROWS = 4  # taggers in a figure with one row, or column, for each


@dataclass(frozen=True)
class BetweenGroups:
    """What a report says of groups.

    named: what names a group, 'run'. measured: tagger -> one for each seed. logits: tagger -> (events,) of
    its first seed, for the figures. reference: the tagger that the others are set against, and ratios:
    tagger -> seed -> at each rejection. recovered: tagger -> condition -> one for each seed, and mapped: of
    the first seed, for the figures. thinned: tagger -> condition -> the same with codes of fewer and fewer
    of each group's events, of the first seed, fewest first. titles: condition -> its title and unit. shown:
    taggers of the figures that have no room for all. notes: what could not be measured and why.
    """

    named: str
    events: Grouped
    measured: Mapping[str, Sequence[ByGroup]]
    logits: Mapping[str, Array]
    reference: str = ""
    ratios: Mapping[str, Sequence[Sequence[Steadier]]] = field(default_factory=dict)
    recovered: Mapping[str, Mapping[str, Sequence[Recovered]]] = field(default_factory=dict)
    mapped: Mapping[str, Mapping[str, Mapped]] = field(default_factory=dict)
    thinned: Mapping[str, Mapping[str, Sequence[Recovered]]] = field(default_factory=dict)
    rejection: float = SHOWN  # background rejection that figures and words are about, or the nearest to it
    titles: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    shown: Sequence[str] = ()
    notes: Sequence[str] = ()

    def title(self, condition: str) -> tuple[str, str]:
        """Title and unit of a condition."""
        return self.titles.get(condition, (condition, ""))

    @property
    def few(self) -> list[str]:
        """Taggers for figures that have no room for all: as asked, or the reference and those with codes."""
        known = [name for name in self.shown if name in self.measured]
        order = [self.reference, *self.recovered, *self.measured]
        return known or [name for name in dict.fromkeys(order) if name in self.measured][:ROWS]
