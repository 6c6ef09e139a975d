"""Events with the group that each belongs to, checked once for all measures between groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.evaluation.groups.spread import index_groups
from hepdecorr.evaluation.metrics.paired_bootstrap import ProtectedVariable
from hepdecorr.stats.arrays import validate_arrays
from hepdecorr.stats.results import Array, Indices, ResultRecord

MAX_NAMED_GROUPS = 3  # groups that a message names


@dataclass(frozen=True)
class GroupSizes(ResultRecord):
    """How many events the groups have, and how many groups lack something."""

    num_groups: int
    min_events: int
    median_events: float
    max_events: int
    num_single_event: int  # groups of one event
    num_without_background: int
    num_without_signal: int


@dataclass(frozen=True)
class GroupedEvents:
    """Events (events,) and what is known of their groups (groups,), which are numbered from 0.

    weight is None where all events weigh the same. conditions: what was different from group to group, by
    name, such as the true photon scale of a run.
    """

    label: Array  # 0 background, 1 signal
    group_index: Indices
    weight: Array | None
    group_ids: npt.NDArray[np.int64]  # (groups,) as they were given, ascending
    protected: Mapping[str, ProtectedVariable] = field(default_factory=dict)
    conditions: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def from_arrays(
        cls,
        label: npt.ArrayLike,
        group: npt.ArrayLike,
        weight: npt.ArrayLike | None = None,
        *,
        protected: Mapping[str, ProtectedVariable] | None = None,
        conditions: Mapping[str, npt.ArrayLike] | None = None,
    ) -> Self:
        """From arrays (events,); group holds whole numbers, each of `conditions` one value per event.

        InputError for labels beside 0 and 1, arrays that do not fit, or a condition that changes within a
        group.
        """
        y, w = validate_arrays(weight, label=label)
        if strange := sorted({float(one) for one in y[(y != 0) & (y != 1)]})[:5]:
            raise InputError(f"label: values {strange} found; background is 0 and signal is 1")
        place, _ = index_groups(group, len(y))
        names = np.unique(np.asarray(group))
        spectra = {
            name: one._replace(values=validate_arrays(**{name: one.values})[0])
            for name, one in (protected or {}).items()
        }
        equal = float(np.ptp(w)) <= 1e-9 * float(w[0])
        return cls(
            y,
            place,
            None if equal else w,
            names,
            spectra,
            {
                name: values_per_group(values, place, names, name=name)
                for name, values in (conditions or {}).items()
            },
        )

    @property
    def num_groups(self) -> int:
        """How many there are."""
        return len(self.group_ids)

    @property
    def sizes(self) -> GroupSizes:
        """Events of the groups, both classes together, and what some lack."""
        counts = np.bincount(self.group_index, minlength=self.num_groups)
        background, signal = (
            np.bincount(self.group_index[self.label == kind], minlength=self.num_groups) for kind in (0, 1)
        )
        return GroupSizes(
            num_groups=self.num_groups,
            min_events=int(counts.min()),
            median_events=float(np.median(counts)),
            max_events=int(counts.max()),
            num_single_event=int(np.count_nonzero(counts == 1)),
            num_without_background=int(np.count_nonzero(background == 0)),
            num_without_signal=int(np.count_nonzero(signal == 0)),
        )

    def select_weights(self, mask: npt.NDArray[np.bool_]) -> Array | None:
        """Weights of the chosen events; None where all events weigh the same."""
        return None if self.weight is None else self.weight[mask]


def values_per_group(
    values: npt.ArrayLike, group_index: Indices, group_ids: npt.NDArray[np.int64], *, name: str = "condition"
) -> Array:
    """One value for each group, (groups,), from one for each event.

    InputError where the events of a group differ.
    """
    (found, _) = validate_arrays(**{name: values})
    if len(found) != len(group_index):
        raise InputError(
            f"{name}: {len(found)} values for {len(group_index)} events; pass one value per event"
        )
    every = np.zeros(len(group_ids))
    every[group_index] = found
    if (strange := np.unique(group_index[every[group_index] != found])).size:
        told = ", ".join(str(group_ids[one]) for one in strange[:MAX_NAMED_GROUPS])
        more = f" and {len(strange) - MAX_NAMED_GROUPS} more" if len(strange) > MAX_NAMED_GROUPS else ""
        raise InputError(
            f"{name}: its events differ within the groups {told}{more}, so it is no condition of the group; "
            "leave it out of groups.truth.group"
        )
    return every
