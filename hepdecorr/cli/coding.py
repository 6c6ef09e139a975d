"""The test events of a table and what taggers with group codes make of them, as the measures take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hepdecorr import catalogue
from hepdecorr.cli.checks import PROCESSES
from hepdecorr.config import Config
from hepdecorr.errors import InputError
from hepdecorr.table import Arrays, Selection, Table
from hepdecorr.validation.measures.code_evaluation import Truth
from hepdecorr.validation.measures.codes import Inferred, Normal


@dataclass(frozen=True)
class Events:
    """The test events of a table: columns by name, group numbers from 0 and ids, and the true variables."""

    columns: Arrays
    group: Any
    ids: Any
    truth: Truth
    process: str
    base: Path

    @classmethod
    def of(cls, config: Config, table: Table, features: Sequence[str]) -> Events:
        """Those to test with; InputError where there are none, or a variable of groups differs within one."""
        from hepdecorr.validation.measures.grouped import of_groups

        assert config.groups is not None
        truth = config.groups.truth
        names = list(dict.fromkeys([*features, "group", *truth.group, *truth.instance]))
        columns = table.read(names, select=Selection("test", config.table_split))
        if not len(columns["group"]):
            raise InputError(
                f"{table.folder}: no test events in it; give test folds, or datasets to test with"
            )
        ids, group = np.unique(columns["group"], return_inverse=True)
        own = [of_groups(columns[name], group, ids, name=name) for name in truth.group]
        known = Truth(
            np.stack(own, axis=1) if own else None,
            _stacked(columns, truth.instance) if truth.instance else None,
            tuple(truth.group),
            tuple(truth.instance),
        )
        return cls(columns, group, ids, known, truth.process, config.base)

    @property
    def known(self) -> Truth:
        """The truth with its process, which does not travel between processes."""
        if not self.process:
            return self.truth
        process = catalogue.find(self.process, home=PROCESSES, base=self.base)
        return replace(self.truth, process=process)


def inferred(folder: Path, events: Events) -> Inferred:
    """What the tagger in `folder` makes of the events, as the measures take it."""
    from hepdecorr.columnar.group_decoding import GroupDecoding

    tagger = GroupDecoding(folder)
    x = _stacked(events.columns, tagger.card.feature_names).astype(np.float32)
    codes = tagger.codes(x, events.ids[events.group])
    encode = decode = None
    if tagger.gives_instances:

        def encode(rows: Any, u: Any) -> Normal:
            # Drawn codes leave float32 with few digits of their own to lose.
            return Normal(*(part.astype(np.float64) for part in tagger.instances(x[rows], u)))

    if tagger.decodes:

        def decode(u: Any, v: Any) -> Any:
            return tagger.decode(u, v).astype(np.float64)

    represented = _stacked(events.columns, tagger.represented)
    variance, scale = tagger.card.measured.get("variance"), tagger.card.measured.get("deviation")
    return Inferred(
        represented,
        events.group,
        Normal(codes.mean.astype(np.float64), codes.log_var.astype(np.float64)),
        encode,
        decode,
        None if variance is None else np.asarray(variance, dtype=np.float64),
        # A known process has units of its own, in which the errors of all taggers compare.
        None if events.process or scale is None else np.asarray(scale, dtype=np.float64),
        by_class=tagger.card.measured.get("instance_prior") == "class",
    )


def _stacked(columns: Arrays, names: Sequence[str]) -> Any:
    return np.stack([columns[name] for name in names], axis=1).astype(np.float64)
