"""What the codes of groups are made of, for taggers that are told of each event's group: the first pass.

Copy this file to your analysis and edit it, together with the processor that applies the taggers: both must
select the same events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coffea.processor import ProcessorABC

from hepdecorr.columnar import features as room
from hepdecorr.columnar import objects as jets
from hepdecorr.columnar import rows
from hepdecorr.columnar.cuts import Cuts
from hepdecorr.columnar.features.sharing import shared
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.table import Split


class FirstPass(ProcessorABC):
    """Adds up what each row gives to the code of its group.

    `taggers` are {name: folder of the model}, those that take codes; `objects`, `selection` and `grouped_by`
    are as in training.  With `split` only events of `part` count.  Rows count alike, whatever their label and
    weight: a group in data has no labels.  What comes out, {"groups": {name: sums}}, becomes codes by
    `tagger.pool`; they are the same for any chunks and files that a group is spread over.
    """

    def __init__(
        self,
        *,
        taggers: Mapping[str, Path | str],
        objects: Mapping[str, Any] | None = None,
        selection: Cuts = (),
        split: Split | None = None,
        part: str = "test",
        grouped_by: Sequence[str] = (),
        base: Path | str = ".",
    ) -> None:
        self.base, self.objects = Path(base).resolve(), objects
        self.taggers = {name: OnnxTagger(path, base=self.base) for name, path in taggers.items()}
        self.selection, self.split, self.part, self.grouped_by = selection, split, part, list(grouped_by)
        self.features = list(dict.fromkeys(n for t in self.taggers.values() for n in t.feature_names))

    def process(self, events: Any) -> dict[str, Any]:
        """Sums by tagger, and the record of the chunk; both are merged over all chunks."""
        chosen = jets.rows(events, self.objects)
        keep, cutflow = rows.select(chosen, self.selection, base=self.base)
        if self.split is not None:
            sides: dict[str, Any] = {"grouped_by": self.grouped_by, "base": self.base, "among": keep}
            keep &= rows.of_part(chosen, split=self.split, part=self.part, **sides)
            cutflow[self.part] = int(keep.sum())
        chosen = chosen[keep]
        with shared(chosen):
            columns = room.compute(self.features, chosen, base=self.base)
            sums = {name: tagger.summed(chosen, columns=columns) for name, tagger in self.taggers.items()}
        record = rows.record(events, sumw=0.0, cutflow=cutflow, rows=len(chosen))
        return {"groups": sums, "chunks": [record]}

    def postprocess(self, accumulator: Any) -> None:
        """Nothing to do: the taggers make codes of the sums."""
