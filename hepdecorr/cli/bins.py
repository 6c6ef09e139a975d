"""What a report shows in bins of the nuisance, and over the plane of the features where these are two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hepdecorr.cli.further import tagger_of
from hepdecorr.config import Config
from hepdecorr.errors import InputError
from hepdecorr.table import Selection, Table
from hepdecorr.validation.measures import InSlices, Slices, in_slices
from hepdecorr.validation.plots import Plane

SIDE = 161  # points of the grid along each feature
EVENTS = 5000  # among which the figure looks for points to show
COVERED = (0.002, 0.998)  # of the events, by the plane


def slices(config: Config, events: Mapping[str, Any]) -> dict[str, Slices]:
    """Bins of each protected nuisance that has some: its `slices`, or its values where they are few."""
    found = {
        name: Slices.of(events[name], spec.slices)
        for name, spec in config.protected.items()
        if len(events[name])
    }
    return {name: one for name, one in found.items() if one is not None}


def measured(
    events: Mapping[str, Any], slices: Mapping[str, Slices], models: Iterable[str], *, weight: Any
) -> dict[str, dict[str, list[InSlices]]]:
    """Nuisance -> tagger -> its figures in bins, one for each seed; models: names TAGGER-SEED."""
    found: dict[str, dict[str, list[InSlices]]] = {nuisance: {} for nuisance in slices}
    for model in models:
        for nuisance, bins in slices.items():
            one = in_slices(
                events[model], events["label"], events[nuisance], weight, slices=bins, name=nuisance
            )
            found[nuisance].setdefault(tagger_of(model), []).append(one)
    return found


def plane(config: Config, models: Mapping[str, Path]) -> Plane | None:
    """The taggers (name -> folder) on a grid of their two features, with some test events.

    None where the features are not two, rows have constituents, or there is no table to take events from.
    """
    from hepdecorr.columnar.tagger import OnnxTagger

    try:
        table = Table.open(config.output_folder / "table")
    except InputError:
        return None  # a report can be made where only the scores are
    names = table.names("feature")
    taggers = {name: OnnxTagger(path, base=config.base) for name, path in models.items()}
    # A point of the plane belongs to no group.
    taggers = {name: one for name, one in taggers.items() if one.card.context is None}
    if len(names) != 2 or any(one.card.constituents or not one.feature_names for one in taggers.values()):
        return None
    if not taggers:
        return None
    chosen = Selection("test", config.table_split)
    rows = table.read([*names, *config.protected, "label"], select=chosen)
    if not len(rows["label"]):
        return None
    # Rows stand dataset by dataset: some of everywhere, in an order that is the same each time.
    order = np.random.default_rng(0).permutation(len(rows["label"]))[:EVENTS]
    points = np.stack([rows[name][order] for name in names], 1).astype(np.float64)
    x, y = (_span(points[:, k]) for k in (0, 1))
    grid = dict(zip(names, np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).T.astype(np.float32), strict=True))
    # A tagger may take one of the two alone.
    logits = {name: one.logits(one.stack(grid)).astype(np.float64) for name, one in taggers.items()}
    return Plane(
        x=x,
        y=y,
        logits={name: one.reshape(len(y), len(x)) for name, one in logits.items()},
        points=points,
        label=rows["label"][order],
        nuisances={name: rows[name][order] for name in config.protected},
        titles=(_title(table, names[0]), _title(table, names[1])),
    )


def _span(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    low, high = np.quantile(values, COVERED)
    margin = 0.03 * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, SIDE)


def _title(table: Table, name: str) -> str:
    column = table.column(name)
    return f"{column.title or name} [{column.unit}]" if column.unit else column.title or name
