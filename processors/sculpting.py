"""Does a cut on the tagger sculpt the protected variable?  Copy this file to your analysis and edit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from coffea.processor import ProcessorABC, accumulate

from hepdecorr.columnar import compatibility, histograms, jet_images, table_writer
from hepdecorr.columnar import features as room
from hepdecorr.columnar import object_rows as jets
from hepdecorr.columnar.correctionlib import NuisanceThresholds
from hepdecorr.columnar.features.registry import feature_cache
from hepdecorr.columnar.group_codes import GroupCodes
from hepdecorr.columnar.selection import Cuts
from hepdecorr.columnar.systematics import build_systematics
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError, suggest
from hepdecorr.table import Arrays, Column, Split

NO_GROUP_CODE = "without a group code"  # rows of a cutflow


def load_group_codes(
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
                "processors/group_codes.py over the same events first, or "
                "hepdecorr.columnar.compute_group_codes"
            )
        given = groups[name]
        found[name] = given if isinstance(given, GroupCodes) else GroupCodes.open(given)
        found[name].check_tagger(tagger.sha256)
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
        extra_scores: Mapping[str, Sequence[str]] | None = None,
        objects: Mapping[str, Any] | None = None,
        selection: Cuts = (),
        weights: Sequence[str] = (),
        systematics: Mapping[str, Mapping[str, Any] | str] | None = None,
        jet_images: bool = False,
        split: Split | None = None,
        split_part: str = "test",
        score_table: Path | str | None = None,
        group_by: Sequence[str] = (),
        groups: Mapping[str, GroupCodes | Path | str] | None = None,
        base: Path | str = ".",
    ) -> None:
        self.base, self.objects = Path(base).resolve(), objects
        self.score_table = None if score_table is None else Path(score_table).resolve()
        self.taggers = {name: OnnxTagger(path, base=self.base) for name, path in taggers.items()}
        self.nuisance_thresholds = {
            k: NuisanceThresholds.from_tagger_folder(self.base / path) for k, path in taggers.items()
        }
        self.groups = load_group_codes(self.taggers, groups or {})
        self.selection, self.weights, self.split, self.split_part = (
            selection,
            list(weights),
            split,
            split_part,
        )
        self.jet_images, self.group_by = jet_images, list(group_by)
        self.systematics = build_systematics(systematics or {}, base=self.base, objects=objects)
        self.extra_scores: dict[str, list[str]] = {name: [] for name in self.taggers}
        self.extra_scores |= {
            name: self.check_extra_scores(name, wanted) for name, wanted in (extra_scores or {}).items()
        }
        own = [Column(name, "score", "", tagger.card.title or name) for name, tagger in self.taggers.items()]
        own += [
            Column(f"{name}.{score}", "score", "", f"{self.taggers[name].card.title or name}: {score}")
            for name, further in self.extra_scores.items()
            for score in further
        ]
        protected = table_writer.make_nuisance_columns(nuisances, base=self.base)
        fixed = table_writer.make_common_columns(objects, group_by=self.group_by)
        self.columns = table_writer.check_unique([*own, *protected, *fixed])
        titles = {c.name: {"unit": c.unit, "title": c.title} for c in protected}
        self.nuisances = {name: {**spec, **titles[name]} for name, spec in nuisances.items()}

    def check_extra_scores(self, name: str, score_names: Sequence[str]) -> list[str]:
        """The further scores that are wanted of a tagger; InputError for one that it does not give."""
        if name not in self.taggers:
            raise InputError(f"scores of {name!r}: no such tagger{suggest(name, self.taggers)}")
        known = self.taggers[name].extra_score_names
        for score in score_names:
            if score not in known:
                hint = suggest(score, known) if known else "; it gives none beside its own"
                raise InputError(f"tagger {name} has no score {score!r}{hint}")
        return list(dict.fromkeys(score_names))

    def process(self, events: Any) -> dict[str, Any]:
        """Histograms by nuisance, and the record of the chunk; both are merged over all chunks."""
        chosen, arrays, filled, numbers = self.apply_taggers(events)
        shifted = []
        for name, shift in self.systematics.items():
            _, _, histogram, counts = self.apply_taggers(shift(events), systematic=name)
            shifted.append(histogram)
            numbers["cutflow"] |= {
                f"{name}: {k}": v for k, v in counts["cutflow"].items() if k == NO_GROUP_CODE
            }
        if self.jet_images:
            filled[jet_images.HISTOGRAM_NAME] = self.fill_jet_images(
                chosen, arrays, events.metadata["dataset"]
            )
        shard = None
        if self.score_table is not None:
            folds = self.split.folds if self.split else 10
            arrays |= table_writer.compute_identifiers(
                chosen, folds=folds, group_by=self.group_by, base=self.base
            )
            arrays |= {
                "label": table_writer.read_labels(chosen),
                "weight": arrays["weight"].astype("float32"),
            }
            shard = table_writer.write_chunk(events, arrays, folder=self.score_table, columns=self.columns)
        record = table_writer.chunk_record(events, **numbers, shard=shard)
        return {"histograms": accumulate([filled, *shifted]), "chunks": [record]}

    def apply_taggers(
        self, events: Any, *, systematic: str = histograms.NOMINAL
    ) -> tuple[Any, Arrays, Any, Any]:
        """Of these events, shifted or not: rows that are left, what is known of them, histograms, counts."""
        weight, sumw = table_writer.compute_weights(events, self.weights, base=self.base)
        chosen = jets.explode_collection(events, self.objects)
        weight = table_writer.broadcast_to_rows(weight, chosen)
        keep, cutflow = table_writer.apply_selection(chosen, self.selection, base=self.base)
        if self.split is not None:
            sides: dict[str, Any] = {"group_by": self.group_by, "base": self.base, "required": keep}
            keep &= table_writer.in_split_part(chosen, split=self.split, part=self.split_part, **sides)
            cutflow[self.split_part] = int(keep.sum())
        chosen, weight = chosen[keep], weight[keep]
        sources = {name: table_writer.nuisance_feature(name, spec) for name, spec in self.nuisances.items()}
        followed = list(
            dict.fromkeys(n for c in self.nuisance_thresholds.values() if c for n in c.column_names)
        )
        wanted = [*sources.values(), *(n for t in self.taggers.values() for n in t.column_names), *followed]
        with feature_cache(chosen):
            columns = room.compute_features(wanted, chosen, base=self.base)
            logits, unknown = self.compute_scores(chosen, columns, systematic=systematic)
            about = compatibility.collect_conventions(chosen, wanted, cuts=self.selection, base=self.base)
        nuisances: Arrays = {name: columns[feature] for name, feature in sources.items()}
        filled = histograms.fill_before_and_after(
            self.nuisances,
            nuisances,
            dataset=events.metadata["dataset"],
            weight=weight,
            logits=logits,
            thresholds=self.compute_thresholds(columns),
            systematics=list(self.systematics),
            systematic=systematic,
        )
        cutflow |= about.data_quality_counts | unknown
        numbers = {"sumw": sumw, "cutflow": cutflow, "rows": len(weight), "conventions": about.conventions}
        arrays = {**{n: columns[n] for n in followed}, **nuisances, **logits, "weight": weight}
        return chosen, arrays, filled, numbers

    def compute_scores(self, rows: Any, columns: Arrays, *, systematic: str) -> tuple[Arrays, dict[str, int]]:
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
                codes = codes.with_prior_fallback()
                if without := int((~codes.contains(tagger.group_ids(rows))).sum()):
                    unknown[NO_GROUP_CODE] = without
            outputs = tagger.outputs(rows, ["logit", *self.extra_scores[name]], columns=columns, groups=codes)
            found[name] = np.asarray(outputs.pop("logit"))
            found |= {f"{name}.{score}": np.asarray(values) for score, values in outputs.items()}
        return found, unknown

    def compute_thresholds(self, columns: Arrays) -> dict[str, dict[float, Any]]:
        """Of each score by rejection: a number, or where it follows a nuisance one for each row."""
        found: dict[str, dict[float, Any]] = {}
        for name, tagger in self.taggers.items():
            cuts = self.nuisance_thresholds[name]
            found[name] = {r: cuts.evaluate(r, columns) if cuts else t for r, t in tagger.thresholds.items()}
            found |= {f"{name}.{score}": tagger.score_thresholds(score) for score in self.extra_scores[name]}
        return found

    def fill_jet_images(self, rows: Any, arrays: Arrays, dataset: str) -> Any:
        """The average jet before and after the cuts on the logit of each tagger."""
        cuts = self.compute_thresholds(arrays)
        return jet_images.fill_images(
            rows,
            dataset=dataset,
            weight=arrays["weight"],
            logits={name: arrays[name] for name in self.taggers},
            thresholds={name: cuts[name] for name in self.taggers},
        )

    def is_valid_result(self, result: Mapping[str, Any]) -> bool:
        """Whether the shards of a checkpoint are still there."""
        return self.score_table is None or table_writer.shards_exist(result["chunks"], self.score_table)

    def postprocess(self, accumulator: Any) -> None:
        """Order the histograms.  histograms.save keeps them, rows.finish_table writes the manifest."""
        for name, histogram in accumulator["histograms"].items():
            accumulator["histograms"][name] = histograms.sort_datasets(histogram)
