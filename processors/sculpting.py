"""Does a cut on the tagger sculpt the protected variable?  Copy this file to your analysis and edit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from coffea.processor import ProcessorABC, accumulate

from hepdecorr.columnar import features as room
from hepdecorr.columnar import histograms, rows
from hepdecorr.columnar import objects as jets
from hepdecorr.columnar import shifts as systematics
from hepdecorr.columnar.features.sharing import shared
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.table import Arrays, Column, Split


class Scored(NamedTuple):
    """The rows of a chunk that are left, their weight, nuisances and logits, and how they became so many."""

    rows: Any
    weight: Any
    nuisances: Arrays
    logits: Arrays
    cutflow: dict[str, int]
    sumw: float


class Sculpting(ProcessorABC):
    """Applies taggers and fills each nuisance before and after their cuts.

    `taggers` are {name: folder of the model}; `nuisances` are {name: {feature, low, high, bins, unit,
    title}}; `objects`, `selection` and `weights` are as in training.  With `split` only events of `part`
    count.  `shifts` are {name: {type: JetEnergyScale, ...}}: under each of them everything is done again,
    and the histograms have it on their axis `systematic`.  With `folder`, logits and nuisances of the events
    as they are are also written there, as a score table.
    """

    def __init__(
        self,
        *,
        taggers: Mapping[str, Path | str],
        nuisances: Mapping[str, Mapping[str, Any]],
        objects: Mapping[str, Any] | None = None,
        selection: rows.Cuts = (),
        weights: Sequence[str] = (),
        shifts: Mapping[str, Mapping[str, Any] | str] | None = None,
        split: Split | None = None,
        part: str = "test",
        folder: Path | str | None = None,
        base: Path | str = ".",
    ) -> None:
        self.base, self.objects = Path(base).resolve(), objects
        self.folder = None if folder is None else Path(folder).resolve()
        self.taggers = {name: OnnxTagger(path, base=self.base) for name, path in taggers.items()}
        self.selection, self.weights, self.split, self.part = selection, list(weights), split, part
        collection = (objects or {}).get("collection")
        self.shifts = systematics.build(shifts or {}, base=self.base, collection=collection)
        scores = [
            Column(name, "score", "", tagger.card.title or name) for name, tagger in self.taggers.items()
        ]
        protected = rows.nuisance_columns(nuisances, base=self.base)
        self.columns = rows.unique([*scores, *protected, *rows.fixed_columns(objects)])
        titles = {c.name: {"unit": c.unit, "title": c.title} for c in protected}
        self.nuisances = {name: {**spec, **titles[name]} for name, spec in nuisances.items()}

    def process(self, events: Any) -> dict[str, Any]:
        """Histograms by nuisance, and the record of the chunk; both are merged over all chunks."""
        found, dataset = self.scored(events), events.metadata["dataset"]
        filled = [self.filled(found, dataset)]
        for name, shift in self.shifts.items():
            filled.append(self.filled(self.scored(shift(events)), dataset, systematic=name))
        shard = None
        if self.folder is not None:
            arrays = found.nuisances | found.logits
            arrays |= rows.identifiers(found.rows, folds=self.split.folds if self.split else 10)
            arrays |= {"label": rows.labels(found.rows), "weight": found.weight.astype("float32")}
            shard = rows.write(events, arrays, folder=self.folder, columns=self.columns)
        record = rows.record(
            events,
            sumw=found.sumw,
            cutflow=found.cutflow,
            rows=len(found.weight),
            shard=shard,
            conventions=rows.conventions_of(events, self.objects),
        )
        return {"histograms": accumulate(filled), "chunks": [record]}

    def scored(self, events: Any) -> Scored:
        """Selection, weights, nuisances and scores of these events, shifted or not."""
        weight, sumw = rows.weights(events, self.weights, base=self.base)
        chosen = jets.rows(events, self.objects)
        weight = rows.of_rows(weight, chosen)
        keep, cutflow = rows.select(chosen, self.selection, base=self.base)
        if self.split is not None:
            keep &= rows.of_part(chosen, split=self.split, part=self.part)
            cutflow[self.part] = int(keep.sum())
        chosen, weight = chosen[keep], weight[keep]
        sources = {name: rows.source(name, spec) for name, spec in self.nuisances.items()}
        wanted = [*sources.values(), *(n for t in self.taggers.values() for n in t.feature_names)]
        with shared(chosen):
            columns = room.compute(wanted, chosen, base=self.base)
            nuisances = {name: columns[feature] for name, feature in sources.items()}
            taggers = self.taggers.items()
            logits = {name: np.asarray(t.logit(chosen, columns=columns)) for name, t in taggers}
            notes = {k: v for t in self.taggers.values() for k, v in t.notes(chosen).items()}
        return Scored(chosen, weight, nuisances, logits, cutflow | notes, sumw)

    def filled(self, found: Scored, dataset: str, *, systematic: str = histograms.NOMINAL) -> Any:
        """Each nuisance before and after the cuts on each tagger."""
        return histograms.before_and_after(
            self.nuisances,
            found.nuisances,
            dataset=dataset,
            weight=found.weight,
            logits=found.logits,
            thresholds={name: tagger.thresholds for name, tagger in self.taggers.items()},
            shifts=list(self.shifts),
            systematic=systematic,
        )

    def holds(self, result: Mapping[str, Any]) -> bool:
        """Whether the shards of a checkpoint are still there."""
        return self.folder is None or rows.still_there(result["chunks"], self.folder)

    def postprocess(self, accumulator: Any) -> None:
        """Order the histograms.  histograms.save keeps them, rows.finish_table writes the manifest."""
        for name, histogram in accumulator["histograms"].items():
            accumulator["histograms"][name] = histograms.by_dataset(histogram)
