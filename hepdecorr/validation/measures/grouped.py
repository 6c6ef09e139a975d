"""Events with the group that each belongs to, checked once for all measures between groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.between import numbered
from hepdecorr.validation.measures.events import checked
from hepdecorr.validation.measures.numbers import Array, Indices, Record
from hepdecorr.validation.measures.paired import Protected

NAMED = 3  # groups that a message names


@dataclass(frozen=True)
class Sizes(Record):
    """How many events the groups have, and how many groups lack something."""

    groups: int
    least: int
    median: float
    most: int
    alone: int  # groups of one event
    without_background: int
    without_signal: int


@dataclass(frozen=True)
class Grouped:
    """Events (events,) and what is known of their groups (groups,), which are numbered from 0.

    weight is None where all events weigh the same. conditions: what was different from group to group, by
    name, such as the true photon scale of a run.
    """

    label: Array  # 0 background, 1 signal
    place: Indices
    weight: Array | None
    names: npt.NDArray[np.int64]  # (groups,) as they were given, ascending
    protected: Mapping[str, Protected] = field(default_factory=dict)
    conditions: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        label: npt.ArrayLike,
        group: npt.ArrayLike,
        weight: npt.ArrayLike | None = None,
        *,
        protected: Mapping[str, Protected] | None = None,
        conditions: Mapping[str, npt.ArrayLike] | None = None,
    ) -> Self:
        """From arrays (events,); group holds whole numbers, each of `conditions` one value per event.

        InputError for labels beside 0 and 1, arrays that do not fit, or a condition that changes within a
        group.
        """
        y, w = checked(weight, label=label)
        if strange := sorted({float(one) for one in y[(y != 0) & (y != 1)]})[:5]:
            raise InputError(f"label: values {strange} found; background is 0 and signal is 1")
        place, _ = numbered(group, len(y))
        names = np.unique(np.asarray(group))
        spectra = {
            name: one._replace(values=checked(**{name: one.values})[0])
            for name, one in (protected or {}).items()
        }
        equal = float(np.ptp(w)) <= 1e-9 * float(w[0])
        return cls(
            y,
            place,
            None if equal else w,
            names,
            spectra,
            {name: of_groups(values, place, names, name=name) for name, values in (conditions or {}).items()},
        )

    @property
    def groups(self) -> int:
        """How many there are."""
        return len(self.names)

    @property
    def sizes(self) -> Sizes:
        """Events of the groups, both classes together, and what some lack."""
        counts = np.bincount(self.place, minlength=self.groups)
        background, signal = (
            np.bincount(self.place[self.label == kind], minlength=self.groups) for kind in (0, 1)
        )
        return Sizes(
            groups=self.groups,
            least=int(counts.min()),
            median=float(np.median(counts)),
            most=int(counts.max()),
            alone=int(np.count_nonzero(counts == 1)),
            without_background=int(np.count_nonzero(background == 0)),
            without_signal=int(np.count_nonzero(signal == 0)),
        )

    def weights(self, chosen: npt.NDArray[np.bool_]) -> Array | None:
        """Weights of the chosen events; None where all events weigh the same."""
        return None if self.weight is None else self.weight[chosen]


def of_groups(
    values: npt.ArrayLike, place: Indices, names: npt.NDArray[np.int64], *, name: str = "condition"
) -> Array:
    """One value for each group, (groups,), from one for each event.

    InputError where the events of a group differ.
    """
    (found, _) = checked(**{name: values})
    if len(found) != len(place):
        raise InputError(f"{name}: {len(found)} values for {len(place)} events; pass one value per event")
    every = np.zeros(len(names))
    every[place] = found
    if (strange := np.unique(place[every[place] != found])).size:
        told = ", ".join(str(names[one]) for one in strange[:NAMED])
        more = f" and {len(strange) - NAMED} more" if len(strange) > NAMED else ""
        raise InputError(
            f"{name}: its events differ within the groups {told}{more}, so it is no condition of the group; "
            "leave it out of groups.truth.group"
        )
    return every
