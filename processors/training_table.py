"""ROOT events -> training table.  Copy this file to your analysis and edit it; the YAML names it by path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coffea.processor import ProcessorABC

from hepdecorr.columnar import features as room
from hepdecorr.columnar import rows
from hepdecorr.table import Arrays, Column


class TrainingTable(ProcessorABC):
    """Selects events, computes their features and nuisances, and writes a Parquet file for each chunk.

    `features` are names of features; `nuisances` are {name: {feature, low, high, unit, title}};
    `selection` holds cuts {feature, min, max} or functions 'my_cuts.py:good'; `weights` are multiplied.
    Events take their dataset's label, or that of the branch `label`.  Files that the names speak of are
    found from `base`.
    """

    def __init__(
        self,
        *,
        folder: Path | str,
        features: Sequence[str],
        nuisances: Mapping[str, Mapping[str, Any]],
        selection: rows.Cuts = (),
        weights: Sequence[str] = (),
        label: str | None = None,
        folds: int = 10,
        base: Path | str = ".",
    ) -> None:
        self.folder, self.base = Path(folder).resolve(), Path(base).resolve()
        self.features = room.expand(features)
        self.nuisances = {name: rows.source(name, spec) for name, spec in nuisances.items()}
        self.selection, self.weights, self.label, self.folds = selection, list(weights), label, folds
        described = [room.describe(name, base=self.base) for name in self.features]
        inputs = [Column(d.name, "feature", d.unit, d.title) for d in described]
        protected = rows.nuisance_columns(nuisances, base=self.base)
        self.columns = rows.unique([*inputs, *protected, *rows.fixed_columns()])

    def process(self, events: Any) -> dict[str, Any]:
        """Write the chunk's rows; what is returned is merged over all chunks."""
        weight, sumw = rows.weights(events, self.weights, base=self.base)
        keep, cutflow = rows.select(events, self.selection, base=self.base)
        chosen, weight = events[keep], weight[keep]
        wanted = [*self.features, *self.nuisances.values()]
        computed = room.compute(wanted, chosen, base=self.base)
        arrays: Arrays = {name: computed[name] for name in self.features}
        arrays |= {name: computed[feature] for name, feature in self.nuisances.items()}
        arrays |= rows.identifiers(chosen, folds=self.folds)
        arrays |= {"label": rows.labels(chosen, self.label), "weight": weight.astype("float32")}
        shard = rows.write(events, arrays, folder=self.folder, columns=self.columns)
        return {"chunks": [rows.record(events, sumw=sumw, cutflow=cutflow, rows=len(weight), shard=shard)]}

    def holds(self, result: Mapping[str, Any]) -> bool:
        """Whether the shards of a checkpoint are still there."""
        return rows.still_there(result["chunks"], self.folder)

    def postprocess(self, accumulator: Any) -> None:
        """Nothing to do: rows.finish_table writes the manifest."""
