"""The sum of weights of a dataset, for those whose cross-section is known and whose sum is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from coffea.processor import ProcessorABC

from hepdecorr.columnar import rows
from hepdecorr.columnar.filesets import Dataset
from hepdecorr.columnar.running import run
from hepdecorr.errors import InputError


class SumOfWeights(ProcessorABC):
    """Reads the weight branches alone."""

    def __init__(self, weights: Sequence[str], *, base: Path) -> None:
        self.weights, self.base = list(weights), base

    def process(self, events: Any) -> dict[str, Any]:
        """The record of the chunk, without rows."""
        _, total = rows.weights(events, self.weights, base=self.base)
        return {"chunks": [rows.record(events, sumw=total, cutflow={}, rows=0)]}

    def postprocess(self, accumulator: Any) -> None:
        """Nothing to do."""


def with_sumw(
    datasets: Sequence[Dataset], weights: Sequence[str], *, base: Path, **options: Any
) -> list[Dataset]:
    """The datasets, `sumw` summed over the events read where there is an xsec but no sumw.

    `options` go to running.run.  The sum covers what is processed: if files are left out later, the rest
    still adds up to the cross-section only with the same files left out here.
    """
    open_ones = [d for d in datasets if d.xsec is not None and d.sumw is None]
    if not open_ones:
        return list(datasets)
    bare = [replace(d, xsec=None) for d in open_ones]
    outcome = run(bare, SumOfWeights(weights, base=base), **options)
    sums = {name: total["sumw"] for name, total in rows.summaries(outcome.out["chunks"]).items()}
    for name, total in sums.items():
        if total <= 0:
            raise InputError(f"dataset {name!r}: its weights sum to {total:g}, so its xsec fixes no weight")
    return [replace(d, sumw=sums[d.name]) if d.name in sums else d for d in datasets]
