"""Histograms: axes from plain specifications, what a cut does to a nuisance, and storage without pickles."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import hist
import numpy as np
import uhi.io.zip
from numpy.typing import NDArray

from hepdecorr.errors import InputError

BEFORE = "before"
NOMINAL = "nominal"
_INDEX = "index.json"
_BINS = 50


def passed(rejection: float) -> str:
    """Category of events above the cut of this background rejection: 'pass 0.95'."""
    return f"pass {rejection:g}"


def failed(rejection: float) -> str:
    """Category of events below the cut: 'fail 0.95'."""
    return f"fail {rejection:g}"


def axis(name: str, spec: Mapping[str, Any]) -> hist.axis.AxesMixin:
    """The axis of quantity `name` from {low, high, bins=50, unit, title} or {edges, unit, title}."""
    title, unit = spec.get("title") or name, spec.get("unit") or ""
    label = f"{title} [{unit}]" if unit else str(title)
    try:
        if "edges" in spec:
            return hist.axis.Variable(list(spec["edges"]), name=name, label=label)
        bins = int(spec.get("bins") or _BINS)
        return hist.axis.Regular(bins, float(spec["low"]), float(spec["high"]), name=name, label=label)
    except KeyError as err:
        raise InputError(f"axis {name!r}: give {err.args[0]!r}, or 'edges'") from None
    except (TypeError, ValueError) as err:
        raise InputError(f"axis {name!r}: {err}") from None


def sculpting(
    name: str,
    spec: Mapping[str, Any],
    *,
    datasets: Sequence[str],
    taggers: Sequence[str],
    rejections: Sequence[float],
    shifts: Sequence[str] = (),
) -> hist.Hist[Any]:
    """An empty histogram of quantity `name` by dataset, systematic, tagger and category, weighted.

    The systematics are 'nominal' and the `shifts`; the categories are 'before', and 'pass R' and 'fail R'
    for each background rejection R.  All are there from the start: filling with no event adds none, and
    chunks must agree on their order.
    """
    categories = [BEFORE, *(c for r in sorted(rejections) for c in (passed(r), failed(r)))]
    systematics = [NOMINAL, *shifts]
    names = {"dataset": datasets, "systematic": systematics, "tagger": taggers, "category": categories}
    axes: list[Any] = [hist.axis.StrCategory(list(v), growth=True, name=n, label=n) for n, v in names.items()]
    axes.append(axis(name, spec))
    empty: hist.Hist[Any] = hist.Hist(*axes, storage=hist.storage.Weight())
    return empty


def before_and_after(
    nuisances: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, NDArray[Any]],
    *,
    dataset: str,
    weight: NDArray[Any],
    logits: Mapping[str, NDArray[Any]],
    thresholds: Mapping[str, Mapping[float, float]],
    shifts: Sequence[str] = (),
    systematic: str = NOMINAL,
) -> dict[str, hist.Hist[Any]]:
    """A `sculpting` histogram of each nuisance for one chunk of a dataset, filled for every tagger.

    `values` (by nuisance), `weight` and `logits` (by tagger) have shape (n,), under `systematic`, which is
    'nominal' or one of the `shifts`; `thresholds` are {tagger: {rejection: threshold}}.
    """
    rejections = sorted({r for points in thresholds.values() for r in points})
    filled = {}
    for name, spec in nuisances.items():
        names: dict[str, Any] = {"datasets": [dataset], "taggers": list(logits), "shifts": shifts}
        filled[name] = sculpting(name, spec, rejections=rejections, **names)
        for tagger, logit in logits.items():
            fill_sculpting(
                filled[name],
                values[name],
                dataset=dataset,
                tagger=tagger,
                weight=weight,
                logit=logit,
                thresholds=thresholds[tagger],
                systematic=systematic,
            )
    return filled


def nominal(histogram: hist.Hist[Any]) -> hist.Hist[Any]:
    """The histogram of the events as they are: without the axis `systematic`, if it has one."""
    if "systematic" not in histogram.axes.name:
        return histogram
    return cast("hist.Hist[Any]", histogram[{"systematic": NOMINAL}])


def by_dataset(histogram: hist.Hist[Any]) -> hist.Hist[Any]:
    """The same histogram with its datasets in alphabetical order, whichever chunk was done first."""
    first, *others = histogram.axes
    order = sorted(first)
    axes: list[Any] = [hist.axis.StrCategory(order, growth=True, name=first.name, label=first.label), *others]
    made: hist.Hist[Any] = hist.Hist(*axes, storage=hist.storage.Weight())
    made.view(flow=True)[...] = histogram.view(flow=True)[[list(first).index(d) for d in order]]
    return made


def fill_sculpting(
    histogram: hist.Hist[Any],
    values: NDArray[Any],
    *,
    dataset: str,
    tagger: str,
    weight: NDArray[Any],
    logit: NDArray[Any],
    thresholds: Mapping[float, float],
    systematic: str = NOMINAL,
) -> None:
    """Fill 'before', and pass and fail of each rejection -> threshold, for one tagger and systematic.

    `values`, `weight` and `logit` have shape (n,); an event passes when its logit is above the threshold.
    """
    categories = {BEFORE: np.ones(len(values), dtype=bool)}
    for rejection, threshold in thresholds.items():
        above = logit > threshold
        categories |= {passed(rejection): above, failed(rejection): ~above}
    quantity = histogram.axes[-1].name
    for category, mask in categories.items():
        filling: dict[str, Any] = {"dataset": dataset, "systematic": systematic}
        filling |= {"tagger": tagger, "category": category}
        filling |= {quantity: values[mask], "weight": weight[mask]}
        histogram.fill(**filling)


def save(histograms: Mapping[str, hist.Hist[Any]], path: Path) -> None:
    """Write named histograms to a zip file in UHI's serialisation, atomically; any UHI library reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        write(archive, histograms)
    part.replace(path)


def load(path: Path) -> dict[str, hist.Hist[Any]]:
    """The histograms of a file that `save` wrote; InputError when it is missing, cut or something else.

    Nothing is unpickled: the file holds JSON and plain arrays.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of histograms; make it with 'hepdecorr evaluate CONFIG'")
    try:
        with zipfile.ZipFile(path) as archive:
            return read(archive)
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, OSError) as err:
        raise InputError(
            f"{path}: no readable file of histograms ({err}); make it again with --redo"
        ) from None


def write(archive: zipfile.ZipFile, histograms: Mapping[str, hist.Hist[Any]]) -> None:
    """Put named histograms into an open zip file, with an index of their names."""
    # Members are numbered: a name may hold a slash, or differ from another by case alone.
    members = {name: f"hist{i}" for i, name in enumerate(histograms)}
    archive.writestr(_INDEX, json.dumps(members))
    for name, member in members.items():
        uhi.io.zip.write(archive, member, histograms[name])


def read(archive: zipfile.ZipFile) -> dict[str, hist.Hist[Any]]:
    """The histograms that `write` put into an open zip file."""
    members = json.loads(archive.read(_INDEX))
    return {name: hist.Hist(uhi.io.zip.read(archive, member)) for name, member in members.items()}


def rejections(histogram: hist.Hist[Any]) -> Sequence[float]:
    """The background rejections for which a histogram of `sculpting` has categories, ascending."""
    return sorted(float(c.removeprefix("pass ")) for c in histogram.axes["category"] if c.startswith("pass "))
