"""ROOT events -> training table.  Copy this file to your analysis and edit it; the YAML names it by path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coffea.processor import ProcessorABC

from hepdecorr.columnar import compatibility, group_ids, table_writer
from hepdecorr.columnar import features as room
from hepdecorr.columnar import object_rows as jets
from hepdecorr.columnar.features.registry import feature_cache
from hepdecorr.columnar.selection import Cuts
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
        group_by: Sequence[str] = (),
        base: Path | str = ".",
    ) -> None:
        self.folder, self.base, self.objects = Path(folder).resolve(), Path(base).resolve(), objects
        self.features = room.expand_names(features)
        self.constituents = table_writer.constituent_columns_spec(constituents)
        self.nuisances = {name: table_writer.nuisance_feature(name, spec) for name, spec in nuisances.items()}
        self.selection, self.weights, self.label, self.folds = selection, list(weights), label, folds
        self.group_by = list(group_by)
        described = [room.describe_feature(name, base=self.base) for name in self.features]
        inputs = [Column(d.name, "feature", d.unit, d.title) for d in described]
        inputs += table_writer.make_constituent_columns(**self.constituents)
        protected = table_writer.make_nuisance_columns(nuisances, base=self.base)
        fixed = table_writer.make_common_columns(objects, group_by=self.group_by)
        self.columns = table_writer.check_unique([*inputs, *protected, *fixed])

    def process(self, events: Any) -> dict[str, Any]:
        """Write the chunk's rows; what is returned is merged over all chunks."""
        weight, sumw = table_writer.compute_weights(events, self.weights, base=self.base)
        chosen = jets.explode_collection(events, self.objects)
        weight = table_writer.broadcast_to_rows(weight, chosen)
        keep, cutflow = table_writer.apply_selection(chosen, self.selection, base=self.base)
        lost = group_ids.find_lost_groups(chosen, self.group_by, keep, base=self.base)
        chosen, weight = chosen[keep], weight[keep]
        wanted = [*self.features, *self.nuisances.values()]
        with feature_cache(chosen):
            computed = room.compute_features(wanted, chosen, base=self.base)
            lists, beyond = table_writer.compute_constituent_arrays(chosen, **self.constituents)
            about = compatibility.collect_conventions(chosen, wanted, cuts=self.selection, base=self.base)
        arrays: Arrays = {name: computed[name] for name in self.features} | lists
        arrays |= {name: computed[feature] for name, feature in self.nuisances.items()}
        arrays |= table_writer.compute_identifiers(
            chosen, folds=self.folds, group_by=self.group_by, base=self.base
        )
        arrays |= {"label": table_writer.read_labels(chosen, self.label), "weight": weight.astype("float32")}
        shard = table_writer.write_chunk(events, arrays, folder=self.folder, columns=self.columns)
        record = table_writer.chunk_record(
            events,
            sumw=sumw,
            cutflow=cutflow | about.data_quality_counts | beyond,
            rows=len(weight),
            shard=shard,
            conventions=about.conventions,
            lost_groups=lost,
        )
        return {"chunks": [record]}

    def is_valid_result(self, result: Mapping[str, Any]) -> bool:
        """Whether the shards of a checkpoint are still there."""
        return table_writer.shards_exist(result["chunks"], self.folder)

    def postprocess(self, accumulator: Any) -> None:
        """Nothing to do: rows.finish_table writes the manifest."""
