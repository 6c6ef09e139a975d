"""From a chunk of events to rows of a table: selection, weights, identifiers, and what was done."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar import conventions, features, group_ids, objects
from hepdecorr.columnar.cuts import Cuts, Mask, checked, cut_name, passes
from hepdecorr.columnar.features import per_constituent
from hepdecorr.columnar.features.branches import branch, numbers
from hepdecorr.columnar.filesets import LABELS, Dataset, describe
from hepdecorr.errors import InputError
from hepdecorr.table import EVENT_IDS, Arrays, Column, Shard, Split, Table, fold, write_manifest, write_shard

_ID_TYPES = {"run": np.uint32, "luminosityBlock": np.uint32, "event": np.uint64}


def metadata(events: Any) -> Mapping[str, Any]:
    """What coffea and the fileset say of a chunk: dataset, filename, entrystart, label, xsec, ..."""
    found = getattr(events, "metadata", None)
    return found if isinstance(found, Mapping) else {}


def place(events: Any) -> str:
    """'FILE (dataset NAME), events A to B: ' to begin an error with; empty for events from elsewhere."""
    about = metadata(events)
    if "filename" not in about:
        return ""
    span = f"events {about.get('entrystart')} to {about.get('entrystop')}"
    return f"{about['filename']} (dataset {about.get('dataset')!r}), {span}: "


def select(events: Any, cuts: Cuts, *, base: Path) -> tuple[Mask, dict[str, int]]:
    """Which rows pass all cuts and those of their dataset, shape (rows,), and how many are left after each.

    A cut is {feature, min, max}, which keeps min <= feature < max, {feature, any_of}, which keeps the values
    listed, or a function of the rows that gives a boolean for each, as 'my_cuts.py:good'.  The dataset's own
    stand in its metadata, under 'selection'.
    """
    keep = np.ones(len(events), dtype=bool)
    cutflow = {"all": len(events)}
    for cut in checked([*cuts, *(metadata(events).get("selection") or [])]):
        keep &= passes(events, cut, base=base)
        cutflow[cut_name(cut)] = int(keep.sum())
    return keep, cutflow


def weights(events: Any, names: Sequence[str], *, base: Path) -> tuple[NDArray[np.float64], float]:
    """Weight of each event, shape (events,), and the sum of the product of `names` over them.

    The weight is that product times xsec / sumw where the dataset has a cross-section: the events of a
    dataset then add up to its cross-section in pb, for `sumw` over all its generated events.  It is asked of
    events, never of objects: an event with two jets was generated once.
    """
    product = np.ones(len(events))
    for column in features.compute(names, events, base=base).values():
        product *= column
    total = float(product.sum())
    about = metadata(events)
    if (xsec := about.get("xsec")) is None:
        return product, total
    if (sumw := about.get("sumw")) is None:
        raise InputError(
            f"dataset {about['dataset']!r} has an xsec but no sumw (the sum of its weights); add it"
        )
    return product * (xsec / sumw), total


def of_rows(values: NDArray[Any], chosen: Any) -> NDArray[Any]:
    """For each row the entry of its event in `values`, which has one for each event of the chunk."""
    return values if objects.spec(chosen) is None else values[np.asarray(chosen["rowEvent"])]


def identifiers(
    events: Any,
    *,
    folds: int = 10,
    salt: int = 0,
    grouped_by: Sequence[str] = (),
    base: Path = Path(),
) -> Arrays:
    """run, luminosityBlock, event and fold, each of shape (rows,); for objects also which of the event's.

    The fold is the event's, so that the objects of an event stay together.  With `grouped_by`, names as
    group_ids.of takes them, there is `group` too, and the fold is the group's.
    """
    ids = {n: numbers(branch(events, n), length=len(events)).astype(_ID_TYPES[n]) for n in EVENT_IDS}
    if grouped_by:
        ids["group"] = group_ids.of(events, grouped_by, base=base)
    sides = ["group"] if grouped_by else EVENT_IDS
    ids["fold"] = fold(*(ids[n] for n in sides), folds=folds, salt=salt)
    if objects.spec(events) is not None:
        ids["object"] = np.asarray(events["rowObject"]).astype(np.int16)
    return ids


def of_part(
    events: Any,
    *,
    split: Split,
    part: str,
    grouped_by: Sequence[str] = (),
    base: Path = Path(),
    among: Mask | None = None,
) -> Mask:
    """Which events belong to 'train', 'validation' or 'test' by their fold and their dataset's use.

    grouped_by: as of `identifiers`.  among: the events (rows,) that have to have a group, default all.
    """
    if grouped_by:
        folds = fold(group_ids.of(events, grouped_by, base=base, among=among), folds=split.folds)
    else:
        folds = identifiers(events, folds=split.folds)["fold"]
    use = str(metadata(events).get("use", "all"))
    return np.asarray(split.part(folds, use=use) == part)


def labels(events: Any, name: str | None = None) -> NDArray[np.int8]:
    """1 for signal and 0 for background, shape (events,): the dataset's label, or that of branch `name`."""
    if name is not None:
        found = numbers(branch(events, name), length=len(events))
        if not np.isin(found, list(LABELS.values())).all():
            raise InputError(f"branch {name!r}: labels must be 0 (background) or 1 (signal)")
        return found.astype(np.int8)
    label = metadata(events).get("label")
    if label not in LABELS.values():
        raise InputError(
            f"dataset {metadata(events).get('dataset')!r} has no label; add 'label: signal' to it"
        )
    return np.full(len(events), label, dtype=np.int8)


def nuisance_columns(nuisances: Mapping[str, Mapping[str, Any]], *, base: Path) -> list[Column]:
    """One column for each protected variable; unit and title are the feature's where none are given."""
    columns = []
    for name, spec in nuisances.items():
        known = features.describe(source(name, spec), base=base)
        unit, title = spec.get("unit"), spec.get("title")
        columns.append(
            Column(
                name,
                "nuisance",
                known.unit if unit is None else unit,
                known.title if title is None else title,
            )
        )
    return columns


def source(name: str, spec: Mapping[str, Any]) -> str:
    """The feature that a nuisance is computed from: its own name unless it says another."""
    return str(spec.get("feature") or name)


def wanted(spec: Mapping[str, Any] | None) -> dict[str, Any]:
    """The section `constituents` as arguments of the next two: names, spelt out, and length."""
    if not spec:
        return {"names": [], "length": 0}
    return {"names": per_constituent.expand_constituents(spec["features"]), "length": int(spec["length"])}


def constituent_columns(names: Sequence[str], *, length: int) -> list[Column]:
    """A column of lists for each feature of constituents, and how many of a list are filled."""
    described = [per_constituent.describe_constituent(n) for n in names]
    lists = [
        Column(f"constituents.{d.name}", "constituent", d.unit, d.title, length=length) for d in described
    ]
    return [*lists, Column("constituents.count", "count")] if lists else []


def constituent_arrays(chosen: Any, names: Sequence[str], *, length: int) -> tuple[Arrays, dict[str, int]]:
    """The columns of `constituent_columns` for these rows, and how many constituents are beyond `length`.

    They are in falling order of pt, zero beyond the last.
    """
    if not names:
        return {}, {}
    found = per_constituent.prepare(chosen, names, length=length, pad_to="length")
    arrays: Arrays = {f"constituents.{n}": found.x[:, :, i] for i, n in enumerate(names)}
    arrays["constituents.count"] = found.mask.sum(axis=1, dtype=np.int16)
    beyond = {f"constituents beyond {length}": found.dropped} if found.dropped else {}
    return arrays, beyond


def fixed_columns(of: Mapping[str, Any] | None = None, *, grouped_by: Sequence[str] = ()) -> list[Column]:
    """The columns that every table has: label, weight, identifiers and fold; of objects, also which one.

    With `grouped_by` also the group, whose title says what names it.
    """
    ids = [Column(n, "id") for n in (*EVENT_IDS, "fold", *(["object"] if of else []))]
    groups = [Column("group", "group", title=", ".join(grouped_by))] if grouped_by else []
    return [Column("label", "label"), Column("weight", "weight"), *ids, *groups]


def unique(columns: Sequence[Column]) -> list[Column]:
    """The columns; InputError when two share a name, as a feature that is also a nuisance does."""
    for name, count in Counter(c.name for c in columns).items():
        if count > 1:
            roles = " and ".join(c.role for c in columns if c.name == name)
            raise InputError(f"{name!r} is {roles} at once; leave one out, or give it another name")
    return list(columns)


def record(
    events: Any,
    *,
    sumw: float,
    cutflow: Mapping[str, int],
    rows: int,
    shard: Shard | None = None,
    conventions: Mapping[str, str] | None = None,
    lost_groups: Sequence[int] = (),
) -> dict[str, Any]:
    """What became of a chunk of events, in plain data.

    Chunks without rows count too: their weights are in sumw.  `conventions` are those of the file
    (conventions.about), which finish_table compares; `lost_groups` those of which the selection leaves no row
    of this chunk, see group_ids.lost.
    """
    about = metadata(events)
    return {
        "dataset": about["dataset"],
        "source": about["filename"],
        "start": int(about["entrystart"]),
        "stop": int(about["entrystop"]),
        "events": len(events),
        "rows": rows,
        "sumw": sumw,
        "cutflow": dict(cutflow),
        "shard": None if shard is None else asdict(shard),
        "conventions": dict(conventions or {}),
        **({"lost_groups": list(lost_groups)} if lost_groups else {}),
    }


def write(events: Any, arrays: Arrays, *, folder: Path, columns: Sequence[Column]) -> Shard | None:
    """Write a chunk's rows to one Parquet file below `folder`; None when there are no rows."""
    about = metadata(events)
    if not len(arrays["event"]):
        return None
    file, start, stop = about["filename"], int(about["entrystart"]), int(about["entrystop"])
    # The name follows from the chunk alone, so that one that is done again overwrites itself.
    key = hashlib.sha256(f"{file}:{about.get('treename')}".encode()).hexdigest()[:12]
    relative = f"{about['dataset']}/{key}_{start}-{stop}.parquet"
    plain = {c.name: arrays[c.name] for c in columns}
    return write_shard(
        folder,
        relative,
        arrays=plain,
        columns=columns,
        dataset=about["dataset"],
        source=file,
        start=start,
        stop=stop,
    )


def still_there(chunks: Iterable[Mapping[str, Any]], folder: Path) -> bool:
    """Whether the shards of these records are on disk, so that a checkpoint may stand for them."""
    return all(c["shard"] is None or (folder / c["shard"]["file"]).is_file() for c in chunks)


def finish_table(
    chunks: Sequence[Mapping[str, Any]],
    *,
    folder: Path,
    columns: Sequence[Column],
    datasets: Sequence[Dataset],
    provenance: Mapping[str, Any],
) -> Table:
    """Write the manifest over the records of all chunks.

    What the files agree on stands in the provenance, under 'conventions'.  InputError when a dataset has
    given no row, or files differ in their conventions.
    """
    totals = summaries(chunks)
    content = {}
    for d in datasets:
        total = totals.get(d.name, {"events": 0, "rows": 0, "sumw": 0.0, "cutflow": {}})
        if not total["rows"]:
            flow = ", ".join(f"{k}: {v}" for k, v in total["cutflow"].items())
            mend = "loosen 'selection'" if total["events"] else "look at its files"
            flow = flow or "its files have no events"
            raise InputError(f"dataset {d.name!r}: no event is left ({flow}); {mend}")
        content[d.name] = {**total, **describe(d), "read_sumw": total["sumw"]}
    shards = [Shard(**c["shard"]) for c in chunks if c["shard"] is not None]
    if found := conventions.agreed(chunks):
        provenance = {**provenance, "conventions": found}
    return write_manifest(folder, shards, columns=columns, datasets=content, provenance=provenance)


def summaries(chunks: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Events, rows, sumw and cutflow of each dataset."""
    found: dict[str, dict[str, Any]] = {}
    sums: dict[str, list[float]] = {}
    for chunk in sorted(chunks, key=lambda c: (c["dataset"], c["source"], c["start"])):
        total = found.setdefault(chunk["dataset"], {"events": 0, "rows": 0, "cutflow": Counter()})
        total["events"] += chunk["events"]
        total["rows"] += chunk["rows"]
        total["cutflow"].update(chunk["cutflow"])
        sums.setdefault(chunk["dataset"], []).append(chunk["sumw"])
    # An exact sum does not depend on the order in which the workers finished.
    return {k: {**v, "cutflow": dict(v["cutflow"]), "sumw": math.fsum(sums[k])} for k, v in found.items()}
