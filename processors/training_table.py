"""ROOT events -> training table.  Copy this file to your analysis and edit it; the YAML names it by path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coffea.processor import ProcessorABC

from hepdecorr.columnar import conventions, group_ids, rows
from hepdecorr.columnar import features as room
from hepdecorr.columnar import objects as jets
from hepdecorr.columnar.cuts import Cuts
from hepdecorr.columnar.features.sharing import shared
from hepdecorr.table import Arrays, Column


class TrainingTable(ProcessorABC):
    """Selects rows, computes their features and nuisances, and writes a Parquet file for each chunk.

    A row is an event, or with `objects`, {collection: FatJet, ...}, each jet.  `features` are names of
    features; `constituents` are {features, length}, those of a jet's so many hardest constituents;
    `nuisances` are {name: {feature, low, high, unit, title}}; `selection` holds cuts {feature, min, max} or
    functions 'my_cuts.py:good'; `weights` are multiplied; `grouped_by` names what says which group a row
    belongs to, as [run]: whole groups then share a fold.  Rows take their dataset's label, or that of the
    branch `label`.  Files that the names speak of are found from `base`.
    """

    def __init__(
        self,
        *,
        folder: Path | str,
        features: Sequence[str],
        nuisances: Mapping[str, Mapping[str, Any]],
        objects: Mapping[str, Any] | None = None,
        constituents: Mapping[str, Any] | None = None,
        selection: Cuts = (),
        weights: Sequence[str] = (),
        label: str | None = None,
        folds: int = 10,
        grouped_by: Sequence[str] = (),
        base: Path | str = ".",
    ) -> None:
        self.folder, self.base, self.objects = Path(folder).resolve(), Path(base).resolve(), objects
        self.features = room.expand(features)
        self.constituents = rows.wanted(constituents)
        self.nuisances = {name: rows.source(name, spec) for name, spec in nuisances.items()}
        self.selection, self.weights, self.label, self.folds = selection, list(weights), label, folds
        self.grouped_by = list(grouped_by)
        described = [room.describe(name, base=self.base) for name in self.features]
        inputs = [Column(d.name, "feature", d.unit, d.title) for d in described]
        inputs += rows.constituent_columns(**self.constituents)
        protected = rows.nuisance_columns(nuisances, base=self.base)
        fixed = rows.fixed_columns(objects, grouped_by=self.grouped_by)
        self.columns = rows.unique([*inputs, *protected, *fixed])

    def process(self, events: Any) -> dict[str, Any]:
        """Write the chunk's rows; what is returned is merged over all chunks."""
        weight, sumw = rows.weights(events, self.weights, base=self.base)
        chosen = jets.rows(events, self.objects)
        weight = rows.of_rows(weight, chosen)
        keep, cutflow = rows.select(chosen, self.selection, base=self.base)
        lost = group_ids.lost(chosen, self.grouped_by, keep, base=self.base)
        chosen, weight = chosen[keep], weight[keep]
        wanted = [*self.features, *self.nuisances.values()]
        with shared(chosen):
            computed = room.compute(wanted, chosen, base=self.base)
            lists, beyond = rows.constituent_arrays(chosen, **self.constituents)
            about = conventions.about(chosen, wanted, cuts=self.selection, base=self.base)
        arrays: Arrays = {name: computed[name] for name in self.features} | lists
        arrays |= {name: computed[feature] for name, feature in self.nuisances.items()}
        arrays |= rows.identifiers(chosen, folds=self.folds, grouped_by=self.grouped_by, base=self.base)
        arrays |= {"label": rows.labels(chosen, self.label), "weight": weight.astype("float32")}
        shard = rows.write(events, arrays, folder=self.folder, columns=self.columns)
        record = rows.record(
            events,
            sumw=sumw,
            cutflow=cutflow | about.notes | beyond,
            rows=len(weight),
            shard=shard,
            conventions=about.conventions,
            lost_groups=lost,
        )
        return {"chunks": [record]}

    def holds(self, result: Mapping[str, Any]) -> bool:
        """Whether the shards of a checkpoint are still there."""
        return rows.still_there(result["chunks"], self.folder)

    def postprocess(self, accumulator: Any) -> None:
        """Nothing to do: rows.finish_table writes the manifest."""
