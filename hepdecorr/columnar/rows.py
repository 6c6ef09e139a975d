"""From a chunk of events to rows of a table: selection, weights, identifiers, and what was done."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepdecorr import catalogue
from hepdecorr.columnar import features
from hepdecorr.columnar.features.branches import branch, numbers
from hepdecorr.columnar.filesets import LABELS, Dataset, describe
from hepdecorr.errors import InputError
from hepdecorr.table import EVENT_IDS, Arrays, Column, Shard, Split, Table, fold, write_manifest, write_shard

Cuts = Sequence[Mapping[str, Any] | str]
Mask = NDArray[np.bool_]

_CUT_KEYS = ("feature", "min", "max")
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
    """Which events pass all cuts, shape (events,), and how many are left after each.

    A cut is {feature, min, max}, which keeps min <= feature < max, or a function of the events that gives
    a boolean for each, as 'my_cuts.py:good'.
    """
    keep = np.ones(len(events), dtype=bool)
    cutflow = {"all": len(events)}
    for cut in cuts:
        keep &= _passes(events, cut, base=base)
        cutflow[_cut_name(cut)] = int(keep.sum())
    return keep, cutflow


def _passes(events: Any, cut: Mapping[str, Any] | str, *, base: Path) -> Mask:
    if isinstance(cut, str):
        mask = np.asarray(ak.to_numpy(catalogue.find(cut, home=features.__name__, base=base)(events)))
        if mask.dtype != bool or mask.shape != (len(events),):
            raise InputError(f"cut {cut!r}: {mask.dtype} of shape {mask.shape}, not a boolean for each event")
        return mask
    for key in cut:
        if key not in _CUT_KEYS:
            raise InputError(f"cut {dict(cut)}: unknown key {key!r}{catalogue.suggest(key, _CUT_KEYS)}")
    low, high = cut.get("min"), cut.get("max")
    if "feature" not in cut or (low is None and high is None):
        raise InputError(f"cut {dict(cut)}: give 'feature', and 'min', 'max' or both")
    (values,) = features.compute([cut["feature"]], events, base=base).values()
    return np.asarray(
        (values >= (-math.inf if low is None else low)) & (values < (math.inf if high is None else high))
    )


def _cut_name(cut: Mapping[str, Any] | str) -> str:
    if isinstance(cut, str):
        return cut
    low, high = cut.get("min"), cut.get("max")
    below = "" if low is None else f"{low:g} <= "
    above = "" if high is None else f" < {high:g}"
    return f"{below}{cut['feature']}{above}"


def weights(events: Any, names: Sequence[str], *, base: Path) -> tuple[NDArray[np.float64], float]:
    """Weight of each event, shape (events,), and the sum of the product of `names` over them.

    The weight is that product times xsec / sumw where the dataset has a cross-section: the events of a
    dataset then add up to its cross-section in pb, for `sumw` over all its generated events.
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


def identifiers(events: Any, *, folds: int = 10, salt: int = 0) -> Arrays:
    """run, luminosityBlock, event and fold, each of shape (events,)."""
    ids = {n: numbers(branch(events, n), length=len(events)).astype(_ID_TYPES[n]) for n in EVENT_IDS}
    return {**ids, "fold": fold(*(ids[n] for n in EVENT_IDS), folds=folds, salt=salt)}


def of_part(events: Any, *, split: Split, part: str) -> Mask:
    """Which events belong to 'train', 'validation' or 'test' by their fold and their dataset's use."""
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


def fixed_columns() -> list[Column]:
    """The columns that every table has: label, weight, identifiers and fold."""
    ids = [Column(n, "id") for n in (*EVENT_IDS, "fold")]
    return [Column("label", "label"), Column("weight", "weight"), *ids]


def unique(columns: Sequence[Column]) -> list[Column]:
    """The columns; InputError when two share a name, as a feature that is also a nuisance does."""
    for name, count in Counter(c.name for c in columns).items():
        if count > 1:
            roles = " and ".join(c.role for c in columns if c.name == name)
            raise InputError(f"{name!r} is {roles} at once; leave one out, or give it another name")
    return list(columns)


def record(
    events: Any, *, sumw: float, cutflow: Mapping[str, int], rows: int, shard: Shard | None = None
) -> dict[str, Any]:
    """What became of a chunk, in plain data.  Chunks without rows count too: their weights are in sumw."""
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
    """Write the manifest over the records of all chunks; InputError when a dataset has given no row."""
    totals = summaries(chunks)
    content = {}
    for d in datasets:
        total = totals.get(d.name, {"events": 0, "rows": 0, "sumw": 0.0, "cutflow": {}})
        if not total["rows"]:
            flow = ", ".join(f"{k}: {v}" for k, v in total["cutflow"].items())
            raise InputError(f"dataset {d.name!r}: no event is left ({flow or 'its files have no events'})")
        content[d.name] = {**total, **describe(d), "read_sumw": total["sumw"]}
    shards = [Shard(**c["shard"]) for c in chunks if c["shard"] is not None]
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
