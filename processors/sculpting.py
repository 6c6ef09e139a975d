"""Does a cut on the tagger sculpt the protected variable?  Copy this file to your analysis and edit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coffea.processor import ProcessorABC

from hepdecorr.columnar import features as room
from hepdecorr.columnar import histograms, rows
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.table import Arrays, Column, Split


class Sculpting(ProcessorABC):
    """Applies taggers and fills each nuisance before and after their cuts.

    `taggers` are {name: folder of the model}; `nuisances` are {name: {feature, low, high, bins, unit,
    title}}; `selection` and `weights` are as in training.  With `split` only events of `part` count.
    With `folder`, logits and nuisances are also written there, as a score table.
    """

    def __init__(
        self,
        *,
        taggers: Mapping[str, Path | str],
        nuisances: Mapping[str, Mapping[str, Any]],
        selection: rows.Cuts = (),
        weights: Sequence[str] = (),
        split: Split | None = None,
        part: str = "test",
        folder: Path | str | None = None,
        base: Path | str = ".",
    ) -> None:
        self.base = Path(base).resolve()
        self.folder = None if folder is None else Path(folder).resolve()
        self.taggers = {name: OnnxTagger(path, base=self.base) for name, path in taggers.items()}
        self.selection, self.weights, self.split, self.part = selection, list(weights), split, part
        scores = [
            Column(name, "score", "", tagger.card.title or name) for name, tagger in self.taggers.items()
        ]
        protected = rows.nuisance_columns(nuisances, base=self.base)
        self.columns = rows.unique([*scores, *protected, *rows.fixed_columns()])
        titles = {c.name: {"unit": c.unit, "title": c.title} for c in protected}
        self.nuisances = {name: {**spec, **titles[name]} for name, spec in nuisances.items()}

    def process(self, events: Any) -> dict[str, Any]:
        """Histograms by nuisance, and the record of the chunk; both are merged over all chunks."""
        weight, sumw = rows.weights(events, self.weights, base=self.base)
        keep, cutflow = rows.select(events, self.selection, base=self.base)
        if self.split is not None:
            keep &= rows.of_part(events, split=self.split, part=self.part)
            cutflow[self.part] = int(keep.sum())
        chosen, weight = events[keep], weight[keep]
        sources = {name: rows.source(name, spec) for name, spec in self.nuisances.items()}
        wanted = [*sources.values(), *(n for t in self.taggers.values() for n in t.feature_names)]
        columns = room.compute(wanted, chosen, base=self.base)

        arrays: Arrays = {name: columns[feature] for name, feature in sources.items()}
        logits: Arrays = {}
        for name, tagger in self.taggers.items():
            tagger.check_conventions(events)
            logits[name] = tagger.logits(tagger.stack(columns))
        histogram = histograms.before_and_after(
            self.nuisances,
            arrays,
            dataset=events.metadata["dataset"],
            weight=weight,
            logits=logits,
            thresholds={name: tagger.thresholds for name, tagger in self.taggers.items()},
        )
        shard = None
        if self.folder is not None:
            arrays |= logits | rows.identifiers(chosen, folds=self.split.folds if self.split else 10)
            arrays |= {"label": rows.labels(chosen), "weight": weight.astype("float32")}
            shard = rows.write(events, arrays, folder=self.folder, columns=self.columns)
        record = rows.record(events, sumw=sumw, cutflow=cutflow, rows=len(weight), shard=shard)
        return {"histograms": histogram, "chunks": [record]}

    def holds(self, result: Mapping[str, Any]) -> bool:
        """Whether the shards of a checkpoint are still there."""
        return self.folder is None or rows.still_there(result["chunks"], self.folder)

    def postprocess(self, accumulator: Any) -> None:
        """Order the histograms.  histograms.save keeps them, rows.finish_table writes the manifest."""
        for name, histogram in accumulator["histograms"].items():
            accumulator["histograms"][name] = histograms.by_dataset(histogram)
