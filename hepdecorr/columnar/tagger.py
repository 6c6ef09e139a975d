"""Applies a trained tagger: one ONNX file with its card, on events (eager or virtual) or plain arrays."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepdecorr.catalogue import suggest
from hepdecorr.columnar import (
    constituents,
    features,
    group_ids,
    inputs,
    objects,
    sessions,
    suitability,
)
from hepdecorr.columnar.features import branches, per_constituent
from hepdecorr.columnar.features.sharing import shared
from hepdecorr.columnar.graphs import Graph
from hepdecorr.columnar.groups import GroupCodes, Pooling
from hepdecorr.columnar.rows import place
from hepdecorr.errors import InputError
from hepdecorr.sums import GroupSums
from hepdecorr.table import Table

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_TOLD: set[str] = set()  # models of which this process has said that jets were empty


class OnnxTagger:
    """A tagger as a function of events: `tagger(events)` gives a score for each.

    One that was trained on objects, jets say, gives a list for each event: a score for each object of the
    collection, `events["FatJet"]` and the scores go together.  Given rows (objects.rows) it gives one a row.
    With a map of its score behind it (posthoc) it computes the nuisances, too, and what it gives is mapped.
    With constituents it takes as many as it was trained with, hardest first, from PFNano or NanoAOD v15.  A
    jet without constituents gets the score that the graph has for nothing: `notes` counts them, a warning is
    logged once.

    One with a context is told the code of each event's group (run, era), which comes from all events of the
    group: `codes = hepdecorr.columnar.group_codes(fileset, tagger)` runs over the files, and then
    `tagger(events, groups=codes)` scores them.  Of events in memory that hold whole groups, `tagger.codes`.

    `model` is a folder with tagger.onnx, that file, or its bytes.  `base` is the folder from which the
    card's own feature files (my_features.py:rho) are found; default: the working directory.  It pickles,
    and each process opens the model once.

    Raises InputError for a file that is no ONNX model, that has no card or one of another version, and
    for a graph that does not fit its card.
    """

    def __init__(
        self, model: Path | str | bytes, *, base: Path | str | None = None, batch_size: int = 2048
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size {batch_size}: at least one event at a time")
        self.base = Path(base or ".").resolve()
        self.graph = Graph(model, batch_size=batch_size)
        self.card, self.source, self.sha256 = self.graph.card, self.graph.source, self.graph.sha256
        about: dict[str, Any] = {"sha256": self.sha256, "batch_size": batch_size}
        self._pooling = Pooling(model, self.card, **about) if self.card.context else None

    def __repr__(self) -> str:
        return f"OnnxTagger({self.card.name!r}, sha256={self.sha256[:12]})"

    def __call__(self, events: Any, *, groups: GroupCodes | None = None) -> Any:
        """Score of each event or object, as an array of awkward; for arrays of numpy, `scores`.

        groups: of a tagger with a context, the codes of all groups among the events.
        """
        # Not built on coffea.ml_tools: importing that imports torch into every worker that has it.
        if isinstance(events, ak.Array):
            return self._arranged(events, sessions.OUTPUTS[:1], groups=groups)[0]
        return self.scores(events)

    @property
    def feature_names(self) -> list[str]:
        """The features, in the order of the columns of `scores` and `logits`."""
        return self.card.feature_names

    @property
    def column_names(self) -> list[str]:
        """All that `logit` wants among `columns`: the features, and the nuisances that a map takes."""
        return self.card.column_names

    @property
    def thresholds(self) -> dict[float, float]:
        """Threshold on the logit of each working point, by its background rejection."""
        return self.cuts()

    def cuts(self, score: str = "") -> dict[float, float]:
        """As `thresholds`, of a further score; none where it could not be cut on, as a KL that vanishes."""
        points = self.card.further_points.get(score, ()) if score else self.card.working_points
        return {point.rejection: point.threshold for point in points}

    def scores(self, x: Any) -> Floats:
        """Score in [0, 1] of each row of `x`, shape (n, features) -> (n,).

        With constituents `x` is {features: (n, f), constituents: (n, any, c), mask: (n, any)}, the mask 1
        where there is a constituent; what stands where it is 0 has no effect.  With a map of the score
        it is a mapping, too, {features: (n, f), nuisances: (n, k)}, and with a context, {features: (n, f),
        context: (n, d)}, the code of each row's group, as GroupCodes.of gives it.
        """
        return self.graph.run(x, sessions.OUTPUTS[:1])[0]

    def logits(self, x: Any) -> Floats:
        """Logit of each row of `x`, as in `scores` -> (n,); it resolves what rounds to a score of 1."""
        return self.graph.run(x, sessions.OUTPUTS[1:])[0]

    def plane(self, events: Any, *, groups: GroupCodes | None = None) -> Any:
        """Both logits of a tagger with two, the axes of an ABCD plane: fields `logit_1` and `logit_2`.

        For a matrix or arrays by name, as `scores` takes them, an array (n, 2).  `groups` as of a call.
        """
        names = self.card.outputs[len(sessions.OUTPUTS) :]
        if len(names) != 2:
            raise InputError(
                f"{self.source}: the tagger {self.card.name} has one score and no plane; train a DoubleDisCo"
            )
        if isinstance(events, ak.Array):
            return ak.zip(self.outputs(events, names, groups=groups))
        return np.stack(self.graph.run(events, names), 1)

    @property
    def further_scores(self) -> list[str]:
        """What is a score beside the tagger's own: outputs of one number each, 'emd' where it has momenta."""
        return self.graph.further

    def outputs(
        self,
        events: Any,
        names: Sequence[str],
        *,
        columns: Mapping[str, NDArray[Any]] | None = None,
        groups: GroupCodes | None = None,
    ) -> dict[str, Any]:
        """Outputs of the graph by name, of any shape, and further scores, in one pass over the events.

        names: 'logit', 'kl', 'input_momenta', ... as the card's `outputs` has them, or of `further_scores`.
        Arrays of awkward, one entry or list an event as in `logit`; for a matrix or arrays by name, arrays
        whose first axis is the rows.  `columns` as of `logit`, `groups` as of a call.
        """
        if isinstance(events, ak.Array):
            found = self._arranged(events, names, columns=columns, groups=groups)
        else:
            found = self.graph.run(events, names)
        return dict(zip(names, found, strict=True))

    def further(self, events: Any, score: str, *, groups: GroupCodes | None = None) -> Any:
        """A further score of each event or object, 'kl' or 'emd' say; larger is less like background.

        'emd' is the energy mover's distance (hepdecorr.emd) between a jet and what an autoencoder makes of
        it, both normed: 'emd_sphere', by opening angles, where the autoencoder sees jets in their rest frame,
        which has no beam, and 'emd_plane', in eta and phi, where it sees them otherwise.  `groups` as of a
        call.
        """
        if score not in self.further_scores:
            known = suggest(score, self.further_scores) if self.further_scores else "; it has none"
            raise InputError(f"{self.source}: the tagger {self.card.name} has no score {score!r}{known}")
        return self.outputs(events, [score], groups=groups)[score]

    def inputs(self, events: Any, *, groups: GroupCodes | None = None) -> Any:
        """What `scores` takes, of these events or rows: a matrix (n, features), or arrays by name.

        `groups` as of a call.  Raises InputError that names a branch or feature that is missing, or not
        finite, and where.
        """
        rows = self._rows(events)
        with self._blamed(rows):
            columns = features.compute(self.column_names, rows, base=self.base)
            if self.card.constituents is None:
                return self._table(columns, self._context(rows, groups))
            return self._arrays(rows, columns, slice(None), "length")

    def stack(self, columns: Mapping[str, NDArray[Any]]) -> Floats:
        """Columns by name -> the matrix the graph takes, shape (n, features); saves computing them twice."""
        return self._side_by_side(columns, self.feature_names)

    def _side_by_side(self, columns: Mapping[str, NDArray[Any]], names: Sequence[str]) -> Floats:
        if missing := [n for n in names if n not in columns]:
            raise InputError(f"{self.source}: the tagger needs feature {missing[0]!r}, which is not there")
        return inputs.side_by_side([columns[n] for n in names])

    def _table(self, columns: Mapping[str, NDArray[Any]], context: Floats | None) -> Any:
        """What `scores` takes of rows without constituents; context (n, d), if there is one."""
        given = {self.card.inputs[0].name: self.stack(columns)}
        if context is not None:
            given["context"] = context
        if names := self.card.nuisance_names:
            given["nuisances"] = self._side_by_side(columns, names)
        return given if len(given) > 1 else next(iter(given.values()))

    def logit(
        self,
        events: Any,
        *,
        columns: Mapping[str, NDArray[Any]] | None = None,
        groups: GroupCodes | None = None,
    ) -> Any:
        """Logit of each event or object, as an array of awkward.

        `columns` are its features of these events or rows where they are computed already; `groups` as of a
        call.
        """
        return self._arranged(events, sessions.OUTPUTS[1:], columns=columns, groups=groups)[0]

    def codes(self, events: Any) -> GroupCodes:
        """The codes of the groups of these events or objects, all of which must be whole.

        For events that hold whole runs: `tagger(events, groups=tagger.codes(events))`.  Where groups lie in
        many chunks and files, hepdecorr.columnar.group_codes goes over all of them.
        """
        return self.pool(self.summed(events))

    def summed(self, events: Any, *, columns: Mapping[str, NDArray[Any]] | None = None) -> GroupSums:
        """What these events or rows add to the sums of their groups: an accumulator, for a first pass.

        In a processor of your own: `return {"groups": self.tagger.summed(events)}`, and after the run
        `codes = tagger.pool(out["groups"])`.  `columns` as of `logit`.
        """
        pooling = self._grouping()
        if self.card.objects and objects.spec(events) is None:
            with self._blamed(events):
                # As in training: what 'leading' leaves out is scored, but no code is made of it.
                events = objects.rows(events, self.card.objects)
        rows = self._rows(events)
        with self._blamed(rows), shared(rows):
            if columns is None:
                columns = features.compute(self.feature_names, rows, base=self.base)
            return pooling.summed(self.stack(columns), self._ids(rows))

    def summed_rows(self, x: Any, ids: NDArray[Any]) -> GroupSums:
        """As `summed`, of a matrix (n, features) and which group each row belongs to, integers (n,)."""
        return self._grouping().summed(x, ids)

    def pool(self, sums: GroupSums) -> GroupCodes:
        """The codes of groups, all of whose events are in `sums`."""
        return self._grouping().pool(sums)

    def group_ids(self, rows: Any) -> NDArray[np.int64]:
        """Which group each of these events, or rows, belongs to: what GroupCodes knows them by, (n,)."""
        with self._blamed(rows):
            return self._ids(rows)

    def _ids(self, rows: Any) -> NDArray[np.int64]:
        return group_ids.of(rows, self._grouping().context.of, base=self.base)

    def _grouping(self) -> Pooling:
        if self._pooling is None:
            raise InputError(f"{self.card.name} is told of no groups, and takes no codes of them")
        return self._pooling

    def _context(self, rows: Any, groups: GroupCodes | None) -> Floats | None:
        """The code of each row's group, (n, d); None for a tagger without a context."""
        if groups is None and self.card.context is None:
            return None
        self._grouping()
        if groups is None:
            named = "+".join(self.card.context.of) if self.card.context else ""
            raise InputError(
                f"it is told the code of each event's group ({named}): compute the codes of all groups, "
                "'codes = hepdecorr.columnar.group_codes(fileset, tagger)', or of events that hold whole "
                "groups, 'codes = tagger.codes(events)', and give them: 'tagger(events, groups=codes)'"
            )
        if not isinstance(groups, GroupCodes):
            raise InputError(
                f"{self.source}: groups are the codes that tagger.codes(events) or "
                f"hepdecorr.columnar.group_codes(fileset, tagger) give, not {type(groups).__name__}"
            )
        groups.check(self.sha256)
        return groups.of(self._ids(rows))

    def notes(self, rows: Any) -> dict[str, int]:
        """What is odd about what it reads of these rows, counted, for a cutflow."""
        names = self.column_names
        found = features.fallbacks(rows, names, base=self.base) if self.card.objects else {}
        sources = features.sources(rows, names, base=self.base) if self.card.objects else {}
        if self.card.constituents or features.of_constituents(names, sources, base=self.base):
            found |= constituents.notes(rows)
        return found

    def passes(
        self, events: Any, *, rejection: float = 0.95, score: str = "", groups: GroupCodes | None = None
    ) -> Any:
        """Whether each event or object passes the card's working point of this background rejection.

        score: of a further score instead of the logit.  `groups` as of a call.
        """
        point = self.card.of_score(score).working_point(rejection)
        found = self.further(events, score, groups=groups) if score else self.logit(events, groups=groups)
        return found > np.float32(point.threshold)

    def check_table(self, table: Table) -> None:
        """InputError unless the table's inputs are the card's: names, order, units and conventions."""
        suitability.check_table(self.card, table, source=self.source, base=self.base)

    def check_conventions(self, events: Any) -> None:
        """InputError when these are other events than the tagger was trained on.

        That is another schema, or for objects another collection or radius, features that come from a
        branch instead of constituents or the other way round, or, where it uses them, constituents whose
        momenta mean something else.
        """
        about: dict[str, Any] = {"source": self.source, "base": self.base}
        if not self.card.objects:
            suitability.check_events(self.card, events, **about)
            return
        rows = self._every(events)
        with self._blamed(events):
            sources = features.sources(rows, self.column_names, base=self.base)
        suitability.check_objects(self.card, rows, sources, where=place(events), **about)

    def _every(self, events: Any) -> Any:
        """The events, or where the tagger is one of objects a row for each of them."""
        if not self.card.objects or objects.spec(events) is not None:
            return events
        with self._blamed(events):
            every = {key: value for key, value in self.card.objects.items() if key != "leading"}
            return objects.rows(events, every)

    def _rows(self, events: Any) -> Any:
        """As `_every`, checked."""
        rows = self._every(events)
        self.check_conventions(rows)
        return rows

    def _arranged(
        self,
        events: Any,
        outputs: Sequence[str],
        *,
        columns: Mapping[str, NDArray[Any]] | None = None,
        groups: GroupCodes | None = None,
    ) -> list[Any]:
        """Outputs as the events are: one for each, or a list for each."""
        rows = self._rows(events)
        with self._blamed(rows):
            found = [ak.from_numpy(one) for one in self._of_rows(rows, outputs, columns, groups)]
            if rows is events:
                return found
            counts = branches.counts(events, self.card.objects["collection"])
        return [ak.unflatten(one, counts) for one in found]

    def _of_rows(
        self,
        rows: Any,
        outputs: Sequence[str],
        columns: Mapping[str, NDArray[Any]] | None,
        groups: GroupCodes | None,
    ) -> list[NDArray[Any]]:
        context = self._context(rows, groups)
        with shared(rows):
            if columns is None:
                columns = features.compute(self.column_names, rows, base=self.base)
            if self.card.constituents is None:
                return self.graph.run(self._table(columns, context), outputs)
            self._tell_of_empty(rows)
            counts = np.minimum(np.diff(constituents.of(rows).start), self._length)
            make = partial(self._arrays, rows, columns)
            return self.graph.clouds(counts, make, outputs)

    @property
    def _length(self) -> int:
        return self.card.constituents.length if self.card.constituents else 0

    def _arrays(
        self, rows: Any, columns: Mapping[str, NDArray[Any]], at: Any, wide: int | str
    ) -> dict[str, Floats]:
        """The inputs of the graph for some of the rows."""
        names = self.card.constituent_names
        cloud = per_constituent.prepare(rows, names, length=self._length, pad_to=wide, at=at)
        found = {"constituents": cloud.x, "mask": cloud.mask.astype(np.float32)}
        if self.feature_names:
            found["features"] = self.stack({n: columns[n][at] for n in self.feature_names})
        if names := self.card.nuisance_names:
            found["nuisances"] = self._side_by_side({n: columns[n][at] for n in names}, names)
        return found

    def _tell_of_empty(self, rows: Any) -> None:
        empty = constituents.notes(rows).get("jets without constituents", 0)
        if empty and self.sha256 not in _TOLD:
            _TOLD.add(self.sha256)
            logger.warning(
                "%stagger %s: %d of %d jets have no constituents; they get the score of an empty jet "
                "(said once; cutflows count them)", place(rows), self.card.name, empty, len(rows),
            )  # fmt: skip

    @contextmanager
    def _blamed(self, events: Any) -> Iterator[None]:
        try:
            yield
        except InputError as err:
            raise InputError(f"{place(events)}tagger {self.card.name}: {err}") from err
