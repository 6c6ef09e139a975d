"""Does a cut on the tagger sculpt the protected variable?  Copy this file to your analysis and edit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from coffea.processor import ProcessorABC, accumulate

from hepdecorr.catalogue import suggest
from hepdecorr.columnar import conventions, histograms, images, rows
from hepdecorr.columnar import features as room
from hepdecorr.columnar import objects as jets
from hepdecorr.columnar import shifts as systematics
from hepdecorr.columnar.cuts import Cuts
from hepdecorr.columnar.features.sharing import shared
from hepdecorr.columnar.groups import GroupCodes
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.columnar.thresholds import Thresholds
from hepdecorr.errors import InputError
from hepdecorr.table import Arrays, Column, Split

NO_CODE = "without a code of their group"  # rows of a cutflow


def codes_of(
    taggers: Mapping[str, OnnxTagger], groups: Mapping[str, GroupCodes | Path | str]
) -> dict[str, GroupCodes]:
    """The codes of groups for each tagger that takes some; InputError where they are missing or another's."""
    found = {}
    for name, tagger in taggers.items():
        if tagger.card.context is None:
            continue
        if name not in groups:
            raise InputError(
                f"tagger {name} is told the code of each event's group, and 'groups' has none for it: run "
                "processors/group_codes.py over the same events first, or hepdecorr.columnar.group_codes"
            )
        given = groups[name]
        found[name] = given if isinstance(given, GroupCodes) else GroupCodes.open(given)
        found[name].check(tagger.sha256)
    return found


class Sculpting(ProcessorABC):
    """Applies taggers and fills each nuisance before and after their cuts.

    `taggers` are {name: folder of the model}; `scores` are {name: [kl, emd]}, further scores of taggers that
    are treated as taggers of their own, called 'name.kl'; `nuisances` are {name: {feature, low, high, bins,
    unit, title}}; `objects`, `selection`, `weights` and `grouped_by` are as in training.  With `split` only
    events of `part` count.  `shifts` are {name: {type: JetEnergyScale, ...}}: under each of them everything
    is done again, and the histograms have it on their axis `systematic`.  With `pictures`, average images of
    the jets before and after the cuts are filled as well.  With `folder`, logits and nuisances of the events
    as they are are also written there, as a score table.  A tagger with a corrections.json beside it is cut
    by that.  `groups` are {name: codes of groups, or their file}, for taggers that are told of each event's
    group.
    """

    def __init__(
        self,
        *,
        taggers: Mapping[str, Path | str],
        nuisances: Mapping[str, Mapping[str, Any]],
        scores: Mapping[str, Sequence[str]] | None = None,
        objects: Mapping[str, Any] | None = None,
        selection: Cuts = (),
        weights: Sequence[str] = (),
        shifts: Mapping[str, Mapping[str, Any] | str] | None = None,
        pictures: bool = False,
        split: Split | None = None,
        part: str = "test",
        folder: Path | str | None = None,
        grouped_by: Sequence[str] = (),
        groups: Mapping[str, GroupCodes | Path | str] | None = None,
        base: Path | str = ".",
    ) -> None:
        self.base, self.objects = Path(base).resolve(), objects
        self.folder = None if folder is None else Path(folder).resolve()
        self.taggers = {name: OnnxTagger(path, base=self.base) for name, path in taggers.items()}
        self.cuts = {k: Thresholds.beside(self.base / path) for k, path in taggers.items()}
        self.groups = codes_of(self.taggers, groups or {})
        self.selection, self.weights, self.split, self.part = selection, list(weights), split, part
        self.pictures, self.grouped_by = pictures, list(grouped_by)
        self.shifts = systematics.build(shifts or {}, base=self.base, objects=objects)
        self.scores: dict[str, list[str]] = {name: [] for name in self.taggers}
        self.scores |= {name: self.further(name, wanted) for name, wanted in (scores or {}).items()}
        own = [Column(name, "score", "", tagger.card.title or name) for name, tagger in self.taggers.items()]
        own += [
            Column(f"{name}.{score}", "score", "", f"{self.taggers[name].card.title or name}: {score}")
            for name, further in self.scores.items()
            for score in further
        ]
        protected = rows.nuisance_columns(nuisances, base=self.base)
        fixed = rows.fixed_columns(objects, grouped_by=self.grouped_by)
        self.columns = rows.unique([*own, *protected, *fixed])
        titles = {c.name: {"unit": c.unit, "title": c.title} for c in protected}
        self.nuisances = {name: {**spec, **titles[name]} for name, spec in nuisances.items()}

    def further(self, name: str, wanted: Sequence[str]) -> list[str]:
        """The further scores that are wanted of a tagger; InputError for one that it does not give."""
        if name not in self.taggers:
            raise InputError(f"scores of {name!r}: no such tagger{suggest(name, self.taggers)}")
        known = self.taggers[name].further_scores
        for score in wanted:
            if score not in known:
                hint = suggest(score, known) if known else "; it gives none beside its own"
                raise InputError(f"tagger {name} has no score {score!r}{hint}")
        return list(dict.fromkeys(wanted))

    def process(self, events: Any) -> dict[str, Any]:
        """Histograms by nuisance, and the record of the chunk; both are merged over all chunks."""
        chosen, arrays, filled, numbers = self.apply(events)
        shifted = []
        for name, shift in self.shifts.items():
            _, _, histogram, counts = self.apply(shift(events), systematic=name)
            shifted.append(histogram)
            numbers["cutflow"] |= {f"{name}: {k}": v for k, v in counts["cutflow"].items() if k == NO_CODE}
        if self.pictures:
            filled[images.NAME] = self.pictured(chosen, arrays, events.metadata["dataset"])
        shard = None
        if self.folder is not None:
            folds = self.split.folds if self.split else 10
            arrays |= rows.identifiers(chosen, folds=folds, grouped_by=self.grouped_by, base=self.base)
            arrays |= {"label": rows.labels(chosen), "weight": arrays["weight"].astype("float32")}
            shard = rows.write(events, arrays, folder=self.folder, columns=self.columns)
        record = rows.record(events, **numbers, shard=shard)
        return {"histograms": accumulate([filled, *shifted]), "chunks": [record]}

    def apply(self, events: Any, *, systematic: str = histograms.NOMINAL) -> tuple[Any, Arrays, Any, Any]:
        """Of these events, shifted or not: rows that are left, what is known of them, histograms, counts."""
        weight, sumw = rows.weights(events, self.weights, base=self.base)
        chosen = jets.rows(events, self.objects)
        weight = rows.of_rows(weight, chosen)
        keep, cutflow = rows.select(chosen, self.selection, base=self.base)
        if self.split is not None:
            sides: dict[str, Any] = {"grouped_by": self.grouped_by, "base": self.base, "among": keep}
            keep &= rows.of_part(chosen, split=self.split, part=self.part, **sides)
            cutflow[self.part] = int(keep.sum())
        chosen, weight = chosen[keep], weight[keep]
        sources = {name: rows.source(name, spec) for name, spec in self.nuisances.items()}
        followed = list(dict.fromkeys(n for c in self.cuts.values() if c for n in c.column_names))
        wanted = [*sources.values(), *(n for t in self.taggers.values() for n in t.column_names), *followed]
        with shared(chosen):
            columns = room.compute(wanted, chosen, base=self.base)
            logits, unknown = self.scored(chosen, columns, systematic=systematic)
            about = conventions.about(chosen, wanted, cuts=self.selection, base=self.base)
        nuisances: Arrays = {name: columns[feature] for name, feature in sources.items()}
        filled = histograms.before_and_after(
            self.nuisances,
            nuisances,
            dataset=events.metadata["dataset"],
            weight=weight,
            logits=logits,
            thresholds=self.thresholds(columns),
            shifts=list(self.shifts),
            systematic=systematic,
        )
        cutflow |= about.notes | unknown
        numbers = {"sumw": sumw, "cutflow": cutflow, "rows": len(weight), "conventions": about.conventions}
        arrays = {**{n: columns[n] for n in followed}, **nuisances, **logits, "weight": weight}
        return chosen, arrays, filled, numbers

    def scored(self, chosen: Any, columns: Arrays, *, systematic: str) -> tuple[Arrays, dict[str, int]]:
        """The logit of each tagger, and its further scores, in one pass over the events; and what is odd.

        Under a shift the codes of groups stay what they are: found again from shifted events they would take
        the shift for the condition of the group, and hide what the systematic is there to show.  A group of
        which only shifted events pass has no code, and counts as one of which nothing is known.
        """
        found: Arrays = {}
        unknown: dict[str, int] = {}
        for name, tagger in self.taggers.items():
            codes = self.groups.get(name)
            if codes is not None and systematic != histograms.NOMINAL:
                codes = codes.with_prior()
                if without := int((~codes.known(tagger.group_ids(chosen))).sum()):
                    unknown[NO_CODE] = without
            outputs = tagger.outputs(chosen, ["logit", *self.scores[name]], columns=columns, groups=codes)
            found[name] = np.asarray(outputs.pop("logit"))
            found |= {f"{name}.{score}": np.asarray(values) for score, values in outputs.items()}
        return found, unknown

    def thresholds(self, columns: Arrays) -> dict[str, dict[float, Any]]:
        """Of each score by rejection: a number, or where it follows a nuisance one for each row."""
        found: dict[str, dict[float, Any]] = {}
        for name, tagger in self.taggers.items():
            cuts = self.cuts[name]
            found[name] = {r: cuts.at(r, columns) if cuts else t for r, t in tagger.thresholds.items()}
            found |= {f"{name}.{score}": tagger.cuts(score) for score in self.scores[name]}
        return found

    def pictured(self, chosen: Any, arrays: Arrays, dataset: str) -> Any:
        """The average jet before and after the cuts on the logit of each tagger."""
        cuts = self.thresholds(arrays)
        return images.fill(
            chosen,
            dataset=dataset,
            weight=arrays["weight"],
            logits={name: arrays[name] for name in self.taggers},
            thresholds={name: cuts[name] for name in self.taggers},
        )

    def holds(self, result: Mapping[str, Any]) -> bool:
        """Whether the shards of a checkpoint are still there."""
        return self.folder is None or rows.still_there(result["chunks"], self.folder)

    def postprocess(self, accumulator: Any) -> None:
        """Order the histograms.  histograms.save keeps them, rows.finish_table writes the manifest."""
        for name, histogram in accumulator["histograms"].items():
            accumulator["histograms"][name] = histograms.by_dataset(histogram)
