"""The first of two passes over events, for taggers that are told of each event's group: codes of groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from coffea.processor import ProcessorABC

from hepdecorr.columnar import features, rows
from hepdecorr.columnar import objects as jets
from hepdecorr.columnar.cuts import Cuts
from hepdecorr.columnar.features.sharing import shared
from hepdecorr.columnar.filesets import Dataset
from hepdecorr.columnar.groups import GroupCodes
from hepdecorr.columnar.running import run
from hepdecorr.columnar.tagger import OnnxTagger

Fileset = Mapping[str, Any] | Sequence[Dataset]


class FirstPass(ProcessorABC):
    """Adds up, over the selected rows of each group, what each tagger's code is made of."""

    def __init__(
        self,
        taggers: Mapping[str, OnnxTagger],
        *,
        selection: Cuts = (),
        objects: Mapping[str, Any] | None = None,
        base: Path | str = ".",
    ) -> None:
        self.taggers, self.selection, self.objects = dict(taggers), selection, objects
        self.base = Path(base).resolve()
        self.features = list(dict.fromkeys(n for t in self.taggers.values() for n in t.feature_names))

    def process(self, events: Any) -> dict[str, Any]:
        """Sums by tagger, merged over all chunks."""
        chosen = jets.rows(events, self.objects)
        keep, _ = rows.select(chosen, self.selection, base=self.base)
        chosen = chosen[keep]
        with shared(chosen):
            columns = features.compute(self.features, chosen, base=self.base)
            return {name: tagger.summed(chosen, columns=columns) for name, tagger in self.taggers.items()}

    def postprocess(self, accumulator: Any) -> None:
        """Nothing to do: the taggers make codes of the sums."""


@overload
def group_codes(fileset: Fileset, taggers: OnnxTagger, **options: Any) -> GroupCodes: ...
@overload
def group_codes(
    fileset: Fileset, taggers: Mapping[str, OnnxTagger], **options: Any
) -> dict[str, GroupCodes]: ...
def group_codes(
    fileset: Fileset,
    taggers: OnnxTagger | Mapping[str, OnnxTagger],
    *,
    selection: Cuts = (),
    objects: Mapping[str, Any] | None = None,
    base: Path | str | None = None,
    **options: Any,
) -> GroupCodes | dict[str, GroupCodes]:
    """The codes of all groups in the files for a tagger, or {name: codes} for several, in one pass.

        tagger = OnnxTagger("models/bsgamma-contextual-1")
        codes = hepdecorr.columnar.group_codes(fileset, tagger, selection=cuts, executor="futures")
        ...
        scores = tagger(events, groups=codes)  # in your processor

    A group's code comes from all of its events that are scored: give the files of all datasets together,
    since a run of data has no label, and the cuts that your processor makes, as rows.select takes them.
    fileset: in coffea's form, or of filesets.expand.  objects: what a row is, default as on the card.  base:
    the folder of your own feature files, default the tagger's.  options: executor, workers, chunksize,
    schema, checkpoints, ... of running.run.  Chunks, files that end within a group, and the executor change
    nothing, not even the last bit.
    """
    several = taggers if isinstance(taggers, Mapping) else {"": taggers}
    if objects is None:
        objects = next((tagger.card.objects for tagger in several.values() if tagger.card.objects), None)
    home = next(iter(several.values())).base if base is None else base
    processor = FirstPass(several, selection=selection, objects=objects, base=home)
    sums = run(fileset, processor, **options).out
    codes = {name: tagger.pool(sums[name]) for name, tagger in several.items()}
    return codes if isinstance(taggers, Mapping) else codes[""]
