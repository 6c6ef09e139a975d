"""From the training table to batches of events in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.form import Form
from hepdecorr.learning.layout import PREFIX, Layout
from hepdecorr.learning.whole import Chosen, Whole
from hepdecorr.table import Selection, Table

if TYPE_CHECKING:
    from hepdecorr.learning.reweighting import Rule
    from hepdecorr.learning.streaming import Streamed

LARGEST_SAMPLE = 200_000  # rows that scalings and quantiles are fitted on


class Batch(NamedTuple):
    """Some events; everything that a loss may look at."""

    x: Tensor  # (n, width), raw units: preprocessing is part of the network; see Form
    y: Tensor  # (n,), 1 for signal and 0 for background
    z: Tensor  # (n, nuisances), raw units: what the score must not reveal
    w: Tensor  # (n,), event weights, of mean one in each class unless the classes were balanced
    group: Tensor  # (n,) int64, group index; zeros where events have no groups
    r: Tensor  # (n,), factor on w in the loss of the classification alone; ones without reweighting

    def to(self, device: torch.device | str) -> Batch:
        """The same events on `device`."""
        return Batch(*(t.to(device, non_blocking=True) for t in self))

    def take(self, index: Tensor | slice) -> Batch:
        """Those of the events that `index` names."""
        return Batch(*(t[index] for t in self))


class Events:
    """Events in memory.

    `x` (n, width), `y` (n,) of 0 and 1, `z` (n, nuisances), `w` (n,), `group` (n,) any integers, `r` (n,).
    With names of `constituents` x is a matrix as Form packs it; its padding is set to zero.
    Weights are scaled class by class: to mean one (the classes keep their proportion), or, with
    `balance`, so that both classes have the same summed weight, n/2 each.  Raises InputError when there
    are no events, only one class (background without signal will do if `alone`), or values that are not
    finite.

    With `whole` the rows are sorted by group, in `order` (n,) of those given; batches and samples then hold
    whole groups, rows of a group side by side, and number them from 0.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        z: Tensor | None = None,
        w: Tensor | None = None,
        group: Tensor | None = None,
        r: Tensor | None = None,
        *,
        features: Sequence[str] | None = None,
        constituents: Sequence[str] = (),
        nuisances: Sequence[str] | None = None,
        balance: bool = False,
        alone: bool = False,
        whole: bool = False,
        source: str = "the events",
    ) -> None:
        z = torch.zeros(len(x), 0) if z is None else z
        w = torch.ones(len(x)) if w is None else w
        r = torch.ones(len(x)) if r is None else r
        self.whole: Whole | None = None
        self.order: Tensor | None = None
        if whole:
            self.whole, self.order = _whole(group, source)
            x, y, z, w, r = (values[self.order] for values in (x, y, z, w, r))
            group = self.whole.numbers
        group = torch.zeros(len(x), dtype=torch.int64) if group is None else _numbered(group)
        if features is None:
            features = () if constituents else [f"x{i}" for i in range(x.shape[1])]
        length = (x.shape[1] - len(features)) // (len(constituents) + 1) if constituents else 0
        self.form = Form(tuple(features), tuple(constituents), length)
        self.nuisances = list(nuisances or (f"z{i}" for i in range(z.shape[1])))
        raw = Batch(x.float(), y.float(), z.float(), w.float(), group, r.float())
        check(raw, self.form, self.nuisances, source)
        scale = class_scales(*_class_sums(raw), balance=balance, alone=alone, source=source)
        self._rows = packed(raw._replace(w=raw.w * scale[raw.y.long()]))
        self._width = x.shape[1]
        self.form.clear(self._rows[:, : self._width])
        self._group = raw.group
        self._grouped = bool(len(raw.group) and raw.group.max() > 0)
        self._by_class, self._merged = _merge(raw.y)

    @classmethod
    def from_table(
        cls, table: Table, layout: Layout, *, select: Selection | None = None, rule: Rule | None = None
    ) -> Self:
        """The selected rows of a table; `rule` gives their factor r."""
        arrays = table.read(to_read(layout, rule), select=select)
        raw = to_batch(arrays, layout, rule)
        return cls(
            *raw,
            features=layout.features,
            constituents=layout.constituents,
            nuisances=layout.nuisances,
            balance=layout.balance,
            alone=layout.alone,
            whole=layout.whole,
            source=described(table, select),
        )

    @property
    def features(self) -> list[str]:
        """Names of the features of a row."""
        return list(self.form.features)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def groups(self) -> int:
        """How many groups there are; one where events have none."""
        return int(self._group.max()) + 1

    @property
    def all(self) -> Batch:
        """All events, in order; of whole groups in the order of their ids."""
        return self._batch(self._rows, self._group)

    def to(self, device: torch.device | str) -> Events:
        """The same events, held on `device`, so that no batch has to travel."""
        other = object.__new__(Events)
        other.__dict__.update(self.__dict__, _rows=self._rows.to(device), _group=self._group.to(device))
        return other

    def seen_as(self, x: Tensor, *, features: Sequence[str], factor: Tensor | None = None) -> Events:
        """The same events with other features, (n, f); weights stay as scaled, times a factor (n,)."""
        other = object.__new__(Events)
        rows = torch.cat([x.float(), self._rows[:, self._width :]], 1)
        if factor is not None:
            rows[:, -2] *= factor
        other.__dict__.update(self.__dict__, _rows=rows, _width=x.shape[1], form=Form(tuple(features)))
        return other

    def with_nuisances(self, z: Tensor, *, names: Sequence[str]) -> Events:
        """The same events with further nuisances (n, k), behind those there are."""
        other = object.__new__(Events)
        rows = torch.cat([self._rows[:, :-3], z.float(), self._rows[:, -3:]], 1)
        other.__dict__.update(self.__dict__, _rows=rows, nuisances=[*self.nuisances, *names])
        return other

    def loose(self) -> Events:
        """The same events, whose batches need not hold whole groups: as without `whole`."""
        other = object.__new__(Events)
        other.__dict__.update(self.__dict__, whole=None)
        return other

    def turns(self, size: int) -> int:
        """How many batches `batches(size)` gives."""
        return self.whole.turns(size) if self.whole else max(1, -(-len(self) // size))

    def batches(
        self, size: int, *, generator: Generator | None = None, shuffle: bool = True
    ) -> Iterator[Batch]:
        """Every event once, in batches of at most `size`; of whole groups, of about `size`.

        The batches are of equal size up to one event, so that no small last batch gives a noisy step,
        and shuffled batches all have the same share of signal, up to one event.  Those of whole groups are
        of equal numbers of groups up to one, and have the signal that their groups have.  The order depends
        on the generator alone, not on the device.
        """
        count, device = len(self), self._rows.device
        if self.whole is not None:
            own = self.whole.batches(size, generator=generator, shuffle=shuffle, device=device)
            yield from (self._numbered(chosen) for chosen in own)
            return
        order = self._shuffled(generator).to(device) if shuffle else None
        start = 0
        for rows in sizes(count, self.turns(size)):
            part = slice(start, start + rows)
            if order is None:
                yield self._batch(self._rows[part], self._group[part])
            else:
                yield self._take(order[part])
            start += rows

    def _numbered(self, chosen: Chosen) -> Batch:
        return self._batch(self._rows.index_select(0, chosen.place), chosen.number)

    def _take(self, index: Tensor) -> Batch:
        group = self._group.index_select(0, index) if self._grouped else self._group[: len(index)]
        return self._batch(self._rows.index_select(0, index), group)

    def _batch(self, rows: Tensor, group: Tensor) -> Batch:
        return unpacked(rows, group, width=self._width)

    def _shuffled(self, generator: Generator | None) -> Tensor:
        mixed = [own[torch.randperm(len(own), generator=generator)] for own in self._by_class]
        return torch.cat(mixed)[self._merged]

    def sample(self, rows: int = LARGEST_SAMPLE, *, generator: Generator | None = None) -> Batch:
        """At most `rows` events drawn without replacement: what scalings and quantiles are fitted on.

        Of whole groups at least one, though it be larger.
        """
        if rows >= len(self):
            return self.all
        if self.whole is not None:
            device = self._rows.device
            return self._numbered(self.whole.some(rows, generator=generator, device=device))
        return self._take(torch.randperm(len(self), generator=generator)[:rows].to(self._rows.device))


class Data(NamedTuple):
    """What a method learns from: events that move it and events that only judge it."""

    train: Events | Streamed
    validation: Events


def packed(b: Batch) -> Tensor:
    """All but the group in one matrix, so that a shuffled batch costs one walk through memory, not many."""
    return torch.cat([b.x, b.z, b.y[:, None], b.w[:, None], b.r[:, None]], 1)


def unpacked(rows: Tensor, group: Tensor, *, width: int) -> Batch:
    """The batch of rows that `packed` made of x (n, width)."""
    return Batch(rows[:, :width], rows[:, -3], rows[:, width:-3], rows[:, -2], group, rows[:, -1])


def sizes(count: int, turns: int) -> Iterator[int]:
    """Sizes of `turns` batches that hold `count` events and differ by at most one."""
    for k in range(turns):
        yield (k + 1) * count // turns - k * count // turns


def class_scales(
    rows: NDArray[np.float64], sums: NDArray[np.float64], *, balance: bool, source: str, alone: bool = False
) -> Tensor:
    """Factor on the weights of background and signal, shape (2,), from their rows and summed weights."""
    if rows.sum() == 0:
        raise InputError(
            f"{source}: no events are left; check the selection, the folds (whole groups share one) and the "
            "input files"
        )
    for label, name in enumerate(("background (label 0)", "signal (label 1)")):
        if label and alone and not rows[label]:
            return torch.as_tensor([rows[0] / sums[0], 1.0], dtype=torch.float32)
        if rows[label] == 0:
            raise InputError(
                f"{source}: no {name} among {int(rows.sum())} events; a tagger needs both classes, and "
                "exposure an outlier set that is not empty"
            )
        if not sums[label] > 0:
            raise InputError(f"{source}: the weights of {name} sum to {sums[label]:g}; they must be positive")
    wanted = np.full(2, rows.sum() / 2) if balance else rows
    return torch.as_tensor(wanted / sums, dtype=torch.float32)


def check(raw: Batch, form: Form, nuisances: Sequence[str], source: str) -> None:
    x, first = raw.x, len(form.features)
    if x.shape[1] != form.width:
        slots = f" and {form.length} slots of {len(form.constituents)} + 1" if form.constituents else ""
        raise InputError(f"{source}: {x.shape[1]} columns for {first} names of features{slots}")
    for values, names, kind in (
        (x[:, :first], form.features, "feature"),
        (raw.z, nuisances, "nuisance"),
        (raw.w[:, None], ("weight",), "column"),
        (raw.r[:, None], ("r",), "column"),
    ):
        if values.shape[1] != len(names):
            raise InputError(f"{source}: {values.shape[1]} columns for {len(names)} names of {kind}s")
        _finite(values, names, kind=kind, source=source)
    if form.constituents and not torch.isfinite(x[:, first:]).all():
        parts = form.unpack(x)  # the padding is zero here: what stands there does not matter
        some = torch.where(torch.isfinite(parts.constituents).all(1), 0.0, torch.nan)
        _finite(some, form.constituents, kind="feature of constituents", source=source)
    if not ((raw.y == 0) | (raw.y == 1)).all():
        raise InputError(f"{source}: labels must be 0 or 1")


def _finite(values: Tensor, names: Sequence[str], *, kind: str, source: str) -> None:
    bad = (~torch.isfinite(values)).sum(0)
    if bad.any():
        worst = int(bad.argmax())
        raise InputError(
            f"{source}: {kind} {names[worst]!r} is not finite in {int(bad[worst])} of {len(values)} "
            "events; mend the feature so that it gives a number for every event"
        )


def _class_sums(raw: Batch) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    signal = raw.y == 1
    parts = [raw.w[~signal].double(), raw.w[signal].double()]
    return np.array([float(len(p)) for p in parts]), np.array([float(p.sum()) for p in parts])


def to_read(layout: Layout, rule: Rule | None) -> list[str]:
    """Names of the columns that `to_batch` wants."""
    return list(dict.fromkeys([*layout.columns, *(rule.nuisances if rule else ())]))


def to_batch(arrays: dict[str, NDArray[Any]], layout: Layout, rule: Rule | None = None) -> Batch:
    label, w = labels(arrays["label"]), product(arrays, layout.weights)

    def columns(names: Sequence[str], *, width: int) -> NDArray[np.float32]:
        stacked = np.empty((len(label), width), dtype=np.float32)
        for k, name in enumerate(names):
            stacked[:, k] = arrays[name]
        return stacked

    x = torch.from_numpy(columns(layout.features, width=layout.form.width))
    if layout.constituents:
        slots = x[:, len(layout.features) :].unflatten(1, (layout.length, -1)).numpy()
        for k, name in enumerate(layout.constituents):
            slots[..., k] = arrays[PREFIX + name][:, : layout.length]
        slots[..., -1] = np.arange(layout.length) < arrays[layout.count][:, None]
        layout.form.clear(x)
    r = np.ones(len(label))
    if rule is not None:
        r = rule(columns(rule.nuisances, width=len(rule.nuisances)).astype(np.float64), label, w)
    group = arrays[layout.group] if layout.group else np.zeros(len(label), dtype=np.int64)
    return Batch(
        x,
        torch.from_numpy(label.astype(np.float32)),
        torch.from_numpy(columns(layout.nuisances, width=len(layout.nuisances))),
        torch.from_numpy(w.astype(np.float32)),
        torch.from_numpy(group.astype(np.int64)),
        torch.from_numpy(r.astype(np.float32)),
    )


def labels(label: NDArray[Any]) -> NDArray[np.int64]:
    if len(label) and not np.isin(label, (0, 1)).all():
        raise InputError(f"labels must be 0 or 1, not {sorted(set(np.unique(label).tolist()) - {0, 1})[:3]}")
    return label.astype(np.int64)


def product(arrays: dict[str, NDArray[Any]], names: Sequence[str]) -> NDArray[np.float64]:
    out = np.ones(len(arrays["label"]))
    for name in names:
        out = out * arrays[name]
    return out


def _merge(y: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Rows of background and of signal, and the order that spreads both evenly."""
    background, signal = (y == 0).nonzero()[:, 0], (y == 1).nonzero()[:, 0]
    places = [(torch.arange(len(own), dtype=torch.float64) + 0.5) / len(own) for own in (background, signal)]
    return (background, signal), torch.cat(places).argsort()


def _numbered(group: Tensor) -> Tensor:
    numbers: Tensor = torch.unique(group, return_inverse=True)[1]
    return numbers


def _whole(group: Tensor | None, source: str) -> tuple[Whole, Tensor]:
    if group is None:
        raise InputError(f"{source}: whole groups are asked for, and the events name none; give them `group`")
    return Whole.sorting(group.long())


def described(table: Table, select: Selection | None) -> str:
    part = f", part {select.part!r}" if select is not None and select.part else ""
    return f"{table.folder}{part}"
