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

from hepdecorr.columnar import (
    compatibility,
    constituents,
    features,
    group_ids,
    object_rows,
    onnx_graph,
    onnx_session,
)
from hepdecorr.columnar.features import branches, per_constituent
from hepdecorr.columnar.features.registry import feature_cache
from hepdecorr.columnar.group_codes import GroupCodes, OnnxGroupEncoder
from hepdecorr.columnar.onnx_graph import OnnxGraph
from hepdecorr.columnar.table_writer import chunk_location
from hepdecorr.errors import InputError, suggest
from hepdecorr.exact_sums import ExactGroupSums
from hepdecorr.table import Table

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_WARNED_MODELS: set[str] = set()  # models of which this process has said that jets were empty


class OnnxTagger:
    """A tagger as a function of events: `tagger(events)` gives a score for each.

    One that was trained on objects, jets say, gives a list for each event: a score for each object of the
    collection, `events["FatJet"]` and the scores go together.  Given rows (objects.rows) it gives one a row.
    With a map of its score behind it (posthoc) it computes the nuisances, too, and what it gives is mapped.
    With constituents it takes as many as it was trained with, hardest first, from PFNano or NanoAOD v15.  A
    jet without constituents gets the score that the graph has for nothing: `notes` counts them, a warning is
    logged once.

    One with a context is told the code of each event's group (run, era), which comes from all events of the
    group: `codes = hepdecorr.columnar.compute_group_codes(fileset, tagger)` runs over the files, and then
    `tagger(events, groups=codes)` scores them.  Of events in memory that hold whole groups,
    `tagger.group_codes(events)`.

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
        self.graph = OnnxGraph(model, batch_size=batch_size)
        self.card, self.source, self.sha256 = self.graph.card, self.graph.source, self.graph.sha256
        about: dict[str, Any] = {"sha256": self.sha256, "batch_size": batch_size}
        self._group_encoder = OnnxGroupEncoder(model, self.card, **about) if self.card.context else None

    def __repr__(self) -> str:
        return f"OnnxTagger({self.card.name!r}, sha256={self.sha256[:12]})"

    def __call__(self, events: Any, *, groups: GroupCodes | None = None) -> Any:
        """Score of each event or object, as an array of awkward; for arrays of numpy, `scores`.

        groups: of a tagger with a context, the codes of all groups among the events.
        """
        # Not built on coffea.ml_tools: importing that imports torch into every worker that has it.
        if isinstance(events, ak.Array):
            return self._compute_outputs(events, onnx_session.SCORE_OUTPUTS[:1], groups=groups)[0]
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
        return self.score_thresholds()

    def score_thresholds(self, score: str = "") -> dict[float, float]:
        """As `thresholds`, of a further score; none where it could not be cut on, as a KL that vanishes."""
        points = self.card.extra_working_points.get(score, ()) if score else self.card.working_points
        return {point.rejection: point.threshold for point in points}

    def scores(self, x: Any) -> Floats:
        """Score in [0, 1] of each row of `x`, shape (n, features) -> (n,).

        With constituents `x` is {features: (n, f), constituents: (n, any, c), mask: (n, any)}, the mask 1
        where there is a constituent; what stands where it is 0 has no effect.  With a map of the score
        it is a mapping, too, {features: (n, f), nuisances: (n, k)}, and with a context, {features: (n, f),
        context: (n, d)}, the code of each row's group, as GroupCodes.of gives it.
        """
        return self.graph.run(x, onnx_session.SCORE_OUTPUTS[:1])[0]

    def logits(self, x: Any) -> Floats:
        """Logit of each row of `x`, as in `scores` -> (n,); it resolves what rounds to a score of 1."""
        return self.graph.run(x, onnx_session.SCORE_OUTPUTS[1:])[0]

    def abcd_plane(self, events: Any, *, groups: GroupCodes | None = None) -> Any:
        """Both logits of a tagger with two, the axes of an ABCD plane: fields `logit_1` and `logit_2`.

        For a matrix or arrays by name, as `scores` takes them, an array (n, 2).  `groups` as of a call.
        """
        names = self.card.outputs[len(onnx_session.SCORE_OUTPUTS) :]
        if len(names) != 2:
            raise InputError(
                f"{self.source}: the tagger {self.card.name} has one score and no plane; train a DoubleDisCo"
            )
        if isinstance(events, ak.Array):
            return ak.zip(self.outputs(events, names, groups=groups))
        return np.stack(self.graph.run(events, names), 1)

    @property
    def extra_score_names(self) -> list[str]:
        """What is a score beside the tagger's own: outputs of one number each, 'emd' where it has momenta."""
        return self.graph.extra_score_names

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
            found = self._compute_outputs(events, names, columns=columns, groups=groups)
        else:
            found = self.graph.run(events, names)
        return dict(zip(names, found, strict=True))

    def extra_score(self, events: Any, score: str, *, groups: GroupCodes | None = None) -> Any:
        """A further score of each event or object, 'kl' or 'emd' say; larger is less like background.

        'emd' is the energy mover's distance (hepdecorr.emd) between a jet and what an autoencoder makes of
        it, both normed: 'emd_sphere', by opening angles, where the autoencoder sees jets in their rest frame,
        which has no beam, and 'emd_plane', in eta and phi, where it sees them otherwise.  `groups` as of a
        call.
        """
        if score not in self.extra_score_names:
            known = suggest(score, self.extra_score_names) if self.extra_score_names else "; it has none"
            raise InputError(f"{self.source}: the tagger {self.card.name} has no score {score!r}{known}")
        return self.outputs(events, [score], groups=groups)[score]

    def inputs(self, events: Any, *, groups: GroupCodes | None = None) -> Any:
        """What `scores` takes, of these events or rows: a matrix (n, features), or arrays by name.

        `groups` as of a call.  Raises InputError that names a branch or feature that is missing, or not
        finite, and where.
        """
        rows = self._to_checked_rows(events)
        with self._prefix_errors(rows):
            columns = features.compute_features(self.column_names, rows, base=self.base)
            if self.card.constituents is None:
                return self._make_matrix_inputs(columns, self._make_context(rows, groups))
            return self._make_constituent_inputs(rows, columns, slice(None), "length")

    def feature_matrix(self, columns: Mapping[str, NDArray[Any]]) -> Floats:
        """Columns by name -> the matrix the graph takes, shape (n, features); saves computing them twice."""
        return self._stack_columns(columns, self.feature_names)

    def _stack_columns(self, columns: Mapping[str, NDArray[Any]], names: Sequence[str]) -> Floats:
        if missing := [n for n in names if n not in columns]:
            raise InputError(f"{self.source}: the tagger needs feature {missing[0]!r}, which is not there")
        return onnx_graph.stack_columns([columns[n] for n in names])

    def _make_matrix_inputs(self, columns: Mapping[str, NDArray[Any]], context: Floats | None) -> Any:
        """What `scores` takes of rows without constituents; context (n, d), if there is one."""
        given = {self.card.inputs[0].name: self.feature_matrix(columns)}
        if context is not None:
            given["context"] = context
        if names := self.card.nuisance_names:
            given["nuisances"] = self._stack_columns(columns, names)
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
        return self._compute_outputs(events, onnx_session.SCORE_OUTPUTS[1:], columns=columns, groups=groups)[
            0
        ]

    def group_codes(self, events: Any) -> GroupCodes:
        """The codes of the groups of these events or objects, all of which must be whole.

        For events that hold whole runs: `tagger(events, groups=tagger.group_codes(events))`.  Where groups
        lie in many chunks and files, hepdecorr.columnar.compute_group_codes goes over all of them.
        """
        return self.pool_sums(self.sum_members(events))

    def sum_members(
        self, events: Any, *, columns: Mapping[str, NDArray[Any]] | None = None
    ) -> ExactGroupSums:
        """What these events or rows add to the sums of their groups: an accumulator, for a first pass.

        In a processor of your own: `return {"groups": self.tagger.sum_members(events)}`, and after the run
        `codes = tagger.pool_sums(out["groups"])`.  `columns` as of `logit`.
        """
        pooling = self._require_group_encoder()
        if self.card.objects and object_rows.get_spec(events) is None:
            with self._prefix_errors(events):
                # As in training: what 'n_leading' leaves out is scored, but no code is made of it.
                events = object_rows.explode_collection(events, self.card.objects)
        rows = self._to_checked_rows(events)
        with self._prefix_errors(rows), feature_cache(rows):
            if columns is None:
                columns = features.compute_features(self.feature_names, rows, base=self.base)
            return pooling.sum_member_rows(self.feature_matrix(columns), self._compute_group_ids(rows))

    def sum_member_rows(self, x: Any, ids: NDArray[Any]) -> ExactGroupSums:
        """As `sum_members`, of a matrix (n, features) and which group each row belongs to, integers (n,)."""
        return self._require_group_encoder().sum_member_rows(x, ids)

    def pool_sums(self, sums: ExactGroupSums) -> GroupCodes:
        """The codes of groups, all of whose events are in `sums`."""
        return self._require_group_encoder().pool_sums(sums)

    def group_ids(self, rows: Any) -> NDArray[np.int64]:
        """Which group each of these events, or rows, belongs to: what GroupCodes knows them by, (n,)."""
        with self._prefix_errors(rows):
            return self._compute_group_ids(rows)

    def _compute_group_ids(self, rows: Any) -> NDArray[np.int64]:
        return group_ids.compute_group_ids(
            rows, self._require_group_encoder().context.group_features, base=self.base
        )

    def _require_group_encoder(self) -> OnnxGroupEncoder:
        if self._group_encoder is None:
            raise InputError(f"{self.card.name} is told of no groups, and takes no codes of them")
        return self._group_encoder

    def _make_context(self, rows: Any, groups: GroupCodes | None) -> Floats | None:
        """The code of each row's group, (n, d); None for a tagger without a context."""
        if groups is None and self.card.context is None:
            return None
        self._require_group_encoder()
        if groups is None:
            named = "+".join(self.card.context.group_features) if self.card.context else ""
            raise InputError(
                f"it is told the code of each event's group ({named}): compute the codes of all groups, "
                "'codes = hepdecorr.columnar.compute_group_codes(fileset, tagger)', or of events that hold "
                "whole groups, 'codes = tagger.group_codes(events)', and give them: "
                "'tagger(events, groups=codes)'"
            )
        if not isinstance(groups, GroupCodes):
            raise InputError(
                f"{self.source}: groups are the codes that tagger.group_codes(events) or "
                f"hepdecorr.columnar.compute_group_codes(fileset, tagger) give, not {type(groups).__name__}"
            )
        groups.check_tagger(self.sha256)
        return groups.mean_for(self._compute_group_ids(rows))

    def data_quality_counts(self, rows: Any) -> dict[str, int]:
        """What is odd about what it reads of these rows, counted, for a cutflow."""
        names = self.column_names
        found = features.feature_fallbacks(rows, names, base=self.base) if self.card.objects else {}
        sources = features.feature_sources(rows, names, base=self.base) if self.card.objects else {}
        if self.card.constituents or features.uses_constituents(names, sources, base=self.base):
            found |= constituents.data_quality_counts(rows)
        return found

    def passes(
        self, events: Any, *, rejection: float = 0.95, score: str = "", groups: GroupCodes | None = None
    ) -> Any:
        """Whether each event or object passes the card's working point of this background rejection.

        score: of a further score instead of the logit.  `groups` as of a call.
        """
        point = self.card.for_score(score).working_point(rejection)
        found = self.extra_score(events, score, groups=groups) if score else self.logit(events, groups=groups)
        return found > np.float32(point.threshold)

    def check_table(self, table: Table) -> None:
        """InputError unless the table's inputs are the card's: names, order, units and conventions."""
        compatibility.check_table(self.card, table, source=self.source, base=self.base)

    def check_conventions(self, events: Any) -> None:
        """InputError when these are other events than the tagger was trained on.

        That is another schema, or for objects another collection or radius, features that come from a
        branch instead of constituents or the other way round, or, where it uses them, constituents whose
        momenta mean something else.
        """
        about: dict[str, Any] = {"source": self.source, "base": self.base}
        if not self.card.objects:
            compatibility.check_events(self.card, events, **about)
            return
        rows = self._to_rows(events)
        with self._prefix_errors(events):
            sources = features.feature_sources(rows, self.column_names, base=self.base)
        compatibility.check_objects(self.card, rows, sources, location=chunk_location(events), **about)

    def _to_rows(self, events: Any) -> Any:
        """The events, or where the tagger is one of objects a row for each of them."""
        if not self.card.objects or object_rows.get_spec(events) is not None:
            return events
        with self._prefix_errors(events):
            every = {key: value for key, value in self.card.objects.items() if key != "n_leading"}
            return object_rows.explode_collection(events, every)

    def _to_checked_rows(self, events: Any) -> Any:
        """As `_every`, checked."""
        rows = self._to_rows(events)
        self.check_conventions(rows)
        return rows

    def _compute_outputs(
        self,
        events: Any,
        outputs: Sequence[str],
        *,
        columns: Mapping[str, NDArray[Any]] | None = None,
        groups: GroupCodes | None = None,
    ) -> list[Any]:
        """Outputs as the events are: one for each, or a list for each."""
        rows = self._to_checked_rows(events)
        with self._prefix_errors(rows):
            found = [ak.from_numpy(one) for one in self._compute_row_outputs(rows, outputs, columns, groups)]
            if rows is events:
                return found
            counts = branches.count_objects(events, self.card.objects["collection"])
        return [ak.unflatten(one, counts) for one in found]

    def _compute_row_outputs(
        self,
        rows: Any,
        outputs: Sequence[str],
        columns: Mapping[str, NDArray[Any]] | None,
        groups: GroupCodes | None,
    ) -> list[NDArray[Any]]:
        context = self._make_context(rows, groups)
        with feature_cache(rows):
            if columns is None:
                columns = features.compute_features(self.column_names, rows, base=self.base)
            if self.card.constituents is None:
                return self.graph.run(self._make_matrix_inputs(columns, context), outputs)
            self._warn_about_empty(rows)
            counts = np.minimum(np.diff(constituents.get_constituents(rows).start), self._max_constituents)
            make = partial(self._make_constituent_inputs, rows, columns)
            return self.graph.run_constituents(counts, make, outputs)

    @property
    def _max_constituents(self) -> int:
        return self.card.constituents.length if self.card.constituents else 0

    def _make_constituent_inputs(
        self, rows: Any, columns: Mapping[str, NDArray[Any]], row_index: Any, pad_to: int | str
    ) -> dict[str, Floats]:
        """The inputs of the graph for some of the rows."""
        names = self.card.constituent_names
        cloud = per_constituent.pad_constituents(
            rows, names, length=self._max_constituents, pad_to=pad_to, row_index=row_index
        )
        found = {"constituents": cloud.x, "mask": cloud.mask.astype(np.float32)}
        if self.feature_names:
            found["features"] = self.feature_matrix({n: columns[n][row_index] for n in self.feature_names})
        if names := self.card.nuisance_names:
            found["nuisances"] = self._stack_columns({n: columns[n][row_index] for n in names}, names)
        return found

    def _warn_about_empty(self, rows: Any) -> None:
        empty = constituents.data_quality_counts(rows).get("jets without constituents", 0)
        if empty and self.sha256 not in _WARNED_MODELS:
            _WARNED_MODELS.add(self.sha256)
            logger.warning(
                "%stagger %s: %d of %d jets have no constituents; they get the score of an empty jet "
                "(said once; cutflows count them)", chunk_location(rows), self.card.name, empty, len(rows),
            )  # fmt: skip

    @contextmanager
    def _prefix_errors(self, events: Any) -> Iterator[None]:
        try:
            yield
        except InputError as err:
            raise InputError(f"{chunk_location(events)}tagger {self.card.name}: {err}") from err
