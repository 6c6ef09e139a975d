"""Scores of a training table's events: the table holds the same features that the tagger would compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr.catalogue import suggest
from hepdecorr.columnar.groups import GroupCodes
from hepdecorr.columnar.tagger import Floats, OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.table import Arrays, Selection, Table

CONTEXT = "context"  # the input that takes codes of groups, which no table holds
PREFIX = "constituents."  # of the columns of a table that hold the constituents' features


def table_logits(tagger: OnnxTagger, table: Table, *, select: Selection) -> Floats:
    """Logit of each selected row, (n,), in the order of `table.read`, one shard at a time.

    A tagger that is told of groups takes their codes from all rows of that part (table_codes).  Faster than
    `hepdecorr evaluate`, which computes every feature again from the ROOT files, and the same to float32.
    InputError where the table lacks a feature or has it in another unit.
    """
    return table_outputs(tagger, table, ["logit"], select=select)["logit"]


def table_outputs(
    tagger: OnnxTagger, table: Table, names: Sequence[str], *, select: Selection
) -> dict[str, Floats]:
    """As `table_logits`, outputs and further scores by name, as tagger.outputs takes them."""
    codes = table_codes(tagger, table, select=select) if tagger.card.context else None
    columns = _columns(tagger, table)
    shards = [
        tagger.outputs(_inputs(tagger, arrays, table, codes), names)
        for arrays in table.iterate(columns, select=select)
        if len(arrays[columns[0]])
    ]
    if not shards:
        return {name: np.empty(0, np.float32) for name in names}
    return {name: np.concatenate([shard[name] for shard in shards]) for name in names}


def table_codes(tagger: OnnxTagger, table: Table, *, select: Selection) -> GroupCodes:
    """The codes of the groups in a part of a table, from all of its rows there, whatever their label.

    InputError where the table has no groups, or groups of something else than those that the tagger knows.
    """
    group = _group(tagger, table)
    part = replace(select, label=None)
    columns = [*tagger.feature_names, group]
    total = tagger.summed_rows(np.empty((0, len(tagger.feature_names)), np.float32), np.empty(0, np.int64))
    for arrays in table.iterate(columns, select=part):
        total = total + tagger.summed_rows(tagger.stack(arrays), arrays[group])
    return tagger.pool(total)


def table_rows(
    tagger: OnnxTagger,
    table: Table,
    *,
    select: Selection,
    weights: Sequence[str],
    most: int,
    random: np.random.Generator,
) -> tuple[Mapping[str, Floats], NDArray[np.float64]]:
    """Inputs of the tagger by name and weights (n,), of at most so many selected rows, drawn at random.

    weights: columns whose product they are.
    """
    codes = table_codes(tagger, table, select=select) if tagger.card.context else None
    columns = list(dict.fromkeys([*_columns(tagger, table), *weights]))
    arrays = table.read(columns, select=select)
    chosen = random.permutation(len(arrays[columns[0]]))[:most]
    some = {name: values[chosen] for name, values in arrays.items()}
    weight = np.prod([some[name].astype(np.float64) for name in weights] or [np.ones(len(chosen))], axis=0)
    found = _inputs(tagger, some, table, codes)
    return found if isinstance(found, Mapping) else {tagger.card.inputs[0].name: found}, weight


def _columns(tagger: OnnxTagger, table: Table) -> list[str]:
    read = [i for i in tagger.card.inputs if i.name != CONTEXT]
    wanted = {_column(tagger, i.name, f.name): f.unit for i in read for f in i.features}
    known = {column.name: column.unit for column in table.columns}
    for name, unit in wanted.items():
        if name not in known:
            raise InputError(f"{table.folder}: the tagger needs {name!r}{suggest(name, known)}")
        if known[name] != unit:
            raise InputError(
                f"{table.folder}: {name!r} has the unit {known[name]!r}, the tagger was trained with {unit!r}"
            )
    more = table.names("count")[:1] if tagger.card.constituents else []
    return [*wanted, *more, *([_group(tagger, table)] if tagger.card.context else [])]


def _group(tagger: OnnxTagger, table: Table) -> str:
    """The table's column of groups, which must be those of the tagger."""
    wanted = ", ".join(tagger.card.context.of) if tagger.card.context else ""
    for name in table.names("group"):
        if (title := table.column(name).title or name) == wanted:
            return name
        raise InputError(
            f"{table.folder}: its groups are of {title}, those of tagger {tagger.card.name} of {wanted}"
        )
    raise InputError(
        f"{table.folder}: no column of groups, and tagger {tagger.card.name} is told the code of each "
        f"event's group ({wanted}); add 'groups: {{of: ...}}' to the config and make the table again"
    )


def _column(tagger: OnnxTagger, of: str, name: str) -> str:
    """The table's name for what an input of the graph takes."""
    if of == "constituents":
        return PREFIX + name
    if of == "nuisances":
        # The graph knows the feature that a nuisance is made of, the table the nuisance.
        return next(
            (n.name for n in tagger.card.nuisances if (getattr(n, "feature", "") or n.name) == name), name
        )
    return name


def _inputs(
    tagger: OnnxTagger, arrays: Arrays, table: Table, codes: GroupCodes | None
) -> Floats | Mapping[str, Any]:
    found: dict[str, Any] = {}
    for given in tagger.card.inputs:
        if given.name == CONTEXT:
            assert codes is not None
            found[CONTEXT] = codes.of(arrays[_group(tagger, table)])
            continue
        columns = [arrays[_column(tagger, given.name, f.name)] for f in given.features]
        if given.name == "constituents":
            columns = [column[:, : given.length] for column in columns]
            found["constituents"] = np.stack(columns, axis=2).astype(np.float32)
        elif given.name == "mask":
            counts = arrays[table.names("count")[0]]
            found["mask"] = (np.arange(given.length) < counts[:, None]).astype(np.float32)
        else:
            found[given.name] = np.stack(columns, axis=1).astype(np.float32)
    return found if len(found) > 1 else next(iter(found.values()))
