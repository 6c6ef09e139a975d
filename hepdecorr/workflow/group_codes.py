"""Codes of the test groups, for taggers with a group code as input: evaluation/group_codes/*.parquet.

The test events of a table and what taggers with group codes make of them, as the measures take it.

Measures what taggers know of groups and of events apart from them, on test groups, and shows it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl
from rich.console import Console

from hepdecorr import registry
from hepdecorr.config.schema import Config
from hepdecorr.errors import InputError
from hepdecorr.evaluation.group_codes.evaluation import CodeEvaluation, TrueVariables, evaluate_codes
from hepdecorr.evaluation.group_codes.inference import (
    CodeInference,
    DiagonalNormal,
    translate_events,
    translation_pairs,
)
from hepdecorr.evaluation.plots.group_codes import TranslatedGroup
from hepdecorr.evaluation.report.content import atomic_write as write_file
from hepdecorr.stats.results import Estimate
from hepdecorr.table import Arrays, Selection, Table
from hepdecorr.workflow import progress
from hepdecorr.workflow.cache import CacheStamp, command_line, digest, library_versions, source_digest
from hepdecorr.workflow.config_checks import FORWARD_MODELS_MODULE
from hepdecorr.workflow.evaluate_metrics import load_cached
from hepdecorr.workflow.extra_scores import strip_seed

GROUP_CODES_FOLDER = "group_codes"


def open_conditioned_taggers(models: Mapping[str, Path], *, base: Path) -> dict[str, Any]:
    """Those of the taggers (TAGGER-SEED -> folder) that take codes, opened."""
    from hepdecorr.columnar.tagger import OnnxTagger

    taggers = {name: OnnxTagger(path, base=base) for name, path in models.items()}
    return {name: tagger for name, tagger in taggers.items() if tagger.card.context is not None}


def group_code_paths(names: Mapping[str, Any], *, folder: Path) -> dict[str, Path]:
    """Where the codes of each tagger stand, by TAGGER-SEED; folder: of the evaluation."""
    return {name: folder / GROUP_CODES_FOLDER / f"{name}.parquet" for name in names}


def write_group_codes(taggers: Mapping[str, Any], sums: Mapping[str, Any], *, folder: Path) -> str:
    """Write the codes that follow from each tagger's sums, and say in a line what they are."""
    said = ""
    for name, path in group_code_paths(taggers, folder=folder).items():
        codes = taggers[name].pool(sums[name])
        codes.save(path)
        said = said or codes.summary()
    taggers_of = f"{len(taggers)} taggers" if len(taggers) > 1 else next(iter(taggers))
    return f"codes of {said}, for {taggers_of}"


def check_same_events(first_pass: Mapping[str, Any], second_pass: Mapping[str, Any], *, advice: str) -> None:
    """InputError unless both passes (their completeness, as plain data) have seen the same events.

    A file that could be read in the one and not in the other makes codes of other events than are scored.
    """
    for key in ("events", "missing_chunks"):
        if first_pass.get(key) != second_pass.get(key):
            raise InputError(
                f"the codes of groups come from {first_pass.get('events_processed', 0):,} events and "
                f"{second_pass.get('events_processed', 0):,} were scored: a file was readable for one of the "
                f"passes only; {advice}"
            )


@dataclass(frozen=True)
class GroupedTestEvents:
    """The test events of a table: columns by name, group numbers from 0 and ids, and the true variables."""

    columns: Arrays
    group_index: Any
    group_ids: Any
    truth: TrueVariables
    forward_model: str
    base: Path

    @classmethod
    def from_table(cls, config: Config, table: Table, features: Sequence[str]) -> GroupedTestEvents:
        """Those to test with; InputError where there are none, or a variable of groups differs within one."""
        from hepdecorr.evaluation.groups.events import values_per_group

        assert config.groups is not None
        truth = config.groups.truth
        names = list(dict.fromkeys([*features, "group", *truth.group, *truth.instance]))
        columns = table.read(names, select=Selection("test", config.table_split))
        if not len(columns["group"]):
            raise InputError(
                f"{table.folder}: no test events in it; give test folds, or datasets to test with"
            )
        ids, group = np.unique(columns["group"], return_inverse=True)
        own = [values_per_group(columns[name], group, ids, name=name) for name in truth.group]
        known = TrueVariables(
            np.stack(own, axis=1) if own else None,
            _stack_columns(columns, truth.instance) if truth.instance else None,
            tuple(truth.group),
            tuple(truth.instance),
        )
        return cls(columns, group, ids, known, truth.forward_model, config.base)

    @property
    def truth_with_forward_model(self) -> TrueVariables:
        """The truth with its process, which does not travel between processes."""
        if not self.forward_model:
            return self.truth
        process = registry.find(self.forward_model, namespace=FORWARD_MODELS_MODULE, base=self.base)
        return replace(self.truth, forward_model=process)


def infer_codes(folder: Path, events: GroupedTestEvents) -> CodeInference:
    """What the tagger in `folder` makes of the events, as the measures take it."""
    from hepdecorr.columnar.group_model import OnnxGroupModel

    tagger = OnnxGroupModel(folder)
    x = _stack_columns(events.columns, tagger.card.feature_names).astype(np.float32)
    codes = tagger.group_codes(x, events.group_ids[events.group_index])
    encode = decode = None
    if tagger.has_instance_codes:

        def encode(rows: Any, u: Any) -> DiagonalNormal:
            # Drawn codes leave float32 with few digits of their own to lose.
            return DiagonalNormal(*(part.astype(np.float64) for part in tagger.instance_codes(x[rows], u)))

    if tagger.has_decoder:

        def decode(u: Any, v: Any) -> Any:
            return tagger.decode(u, v).astype(np.float64)

    represented = _stack_columns(events.columns, tagger.decoded_features)
    variance, scale = tagger.card.metrics.get("variance"), tagger.card.metrics.get("feature_std")
    return CodeInference(
        represented,
        events.group_index,
        DiagonalNormal(codes.mean.astype(np.float64), codes.log_var.astype(np.float64)),
        encode,
        decode,
        None if variance is None else np.asarray(variance, dtype=np.float64),
        # A known process has units of its own, in which the errors of all taggers compare.
        None if events.forward_model or scale is None else np.asarray(scale, dtype=np.float64),
        has_class_priors=tagger.card.metrics.get("instance_prior") == "class",
    )


def _stack_columns(columns: Arrays, names: Sequence[str]) -> Any:
    return np.stack([columns[name] for name in names], axis=1).astype(np.float64)


EXAM_SCORES_MODEL = "exam_scores"  # the process whose exact posterior is known
MAX_SHOWN = 4  # taggers, and pairs of groups, in the figure of translations
EVALUATION_SEED = 0  # of draws, halves and pairs: the same for every tagger


def run_group_codes(
    config: Config,
    *,
    models: Mapping[str, Path],
    table: Table,
    folder: Path,
    console: Console,
    redo: bool = False,
) -> tuple[Path, bool]:
    """folder/{group_codes.html, group_codes.json, figures/} of trained taggers (TAGGER-SEED -> folder).

    Returns the page, and whether it was there already.  What was measured before is read from
    folder/measured, unless `redo`.
    """
    from hepdecorr.evaluation.report.group_codes import write_group_codes_report

    if config.groups is None:
        raise InputError(
            f"{config.path}: the config names no groups; say what groups events with 'groups: {{by: run}}'"
        )
    coded, without = _select_with_codes(models)
    keys = {name: _measures_key(config, table, path) for name, path in coded.items()}
    stamp = CacheStamp(
        folder / "stamp.json", digest(keys, without, config.digest("report", "taggers", "title"))
    )
    page = folder / "group_codes.html"
    if not redo and stamp.is_valid(page, folder / "group_codes.json"):
        return page, True
    stamp.invalidate(page, folder / "group_codes.json")
    features = [name for path in coded.values() for name in _features_of(path)]
    events = GroupedTestEvents.from_table(config, table, list(dict.fromkeys(features)))
    found = _measure_models(config, coded, events, keys, folder / "metrics_cache", console=console, redo=redo)
    with console.status("drawing the codes"):
        write_group_codes_report(folder, _make_report(config, coded, events, found, without))
    stamp.write(taggers=sorted(coded))
    return page, False


def _select_with_codes(models: Mapping[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """Those with codes of groups; and what to say of the others."""
    from hepdecorr.columnar.onnx_graph import OnnxGraph

    coded = {name: path for name, path in models.items() if OnnxGraph(path, batch_size=1).card.context}
    if not coded:
        raise InputError(
            f"{', '.join(models)}: none is told of groups; train a GroupVAE or a Contextual, or choose one "
            "with --only"
        )
    without = dict.fromkeys(strip_seed(name) for name in models if name not in coded)
    return coded, [f"{name}: it is told of no groups, so there are no codes to measure" for name in without]


def _features_of(folder: Path) -> list[str]:
    from hepdecorr.columnar.group_model import OnnxGroupModel

    tagger = OnnxGroupModel(folder)
    return [*tagger.card.feature_names, *tagger.decoded_features]


def _measures_key(config: Config, table: Table, folder: Path) -> str:
    """Digest of all that the measures of a tagger depend on."""
    graphs = [path for path in sorted(folder.glob("*.onnx")) if path.name != "generator.onnx"]
    assert config.groups is not None
    truth = config.groups.truth
    own = [config.base / truth.forward_model.partition(":")[0]] if ".py:" in truth.forward_model else []
    return digest(
        table.fingerprint,
        graphs,
        truth.model_dump(),
        own,
        config.digest("split"),
        source_digest("group-codes"),
    )


def _measure_models(
    config: Config,
    models: Mapping[str, Path],
    events: GroupedTestEvents,
    keys: Mapping[str, str],
    folder: Path,
    *,
    console: Console,
    redo: bool,
) -> dict[str, CodeEvaluation]:
    """Measures by TAGGER-SEED."""
    paths = {name: folder / f"{name}-{keys[name][:24]}.json" for name in models}
    known = {name: None if redo else load_cached(CodeEvaluation, path) for name, path in paths.items()}
    found = {name: one for name, one in known.items() if one is not None}
    work = {name: path for name, path in models.items() if name not in found}
    workers = min(config.resources.jobs, len(work))
    with progress.progress_bars(console) as bars:
        task = bars.add_task("codes", total=len(models), completed=len(found), note="")
        for name, ready in (
            _run_serial(work, events) if workers <= 1 else _run_parallel(work, events, workers)
        ):
            with progress.prefix_errors(name):
                found[name] = ready()
            write_file(paths[name], found[name].to_json().encode())
            bars.advance(task)
    return {name: found[name] for name in models}


def _run_serial(tasks: Mapping[str, Path], events: GroupedTestEvents) -> Iterator[tuple[str, Any]]:
    with threadpoolctl.threadpool_limits(limits=1):
        for name, path in tasks.items():
            yield name, partial(_measure_model, path, events)


def _run_parallel(
    tasks: Mapping[str, Path], events: GroupedTestEvents, workers: int
) -> Iterator[tuple[str, Any]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_limit_threads) as pool:
        futures = {pool.submit(_measure_model, path, events): name for name, path in tasks.items()}
        for future in as_completed(futures):
            yield futures[future], future.result


def _limit_threads() -> None:
    threadpoolctl.threadpool_limits(limits=1)


def _measure_model(folder: Path, events: GroupedTestEvents) -> CodeEvaluation:
    return evaluate_codes(infer_codes(folder, events), events.truth_with_forward_model, seed=EVALUATION_SEED)


def _make_report(
    config: Config,
    models: Mapping[str, Path],
    events: GroupedTestEvents,
    measures: Mapping[str, CodeEvaluation],
    skip_messages: Sequence[str],
) -> Any:
    from hepdecorr.evaluation.report.group_codes import GroupCodesReport

    taggers: dict[str, dict[int, CodeEvaluation]] = {}
    for name, one in measures.items():
        taggers.setdefault(strip_seed(name), {})[int(name.rpartition("-")[2])] = one
    first = {name: models[f"{name}-{next(iter(seeds))}"] for name, seeds in taggers.items()}
    shown = next(iter(config.report.group_codes.values()), list(taggers))
    feature, moved = _translate_groups(
        {name: first[name] for name in shown[:MAX_SHOWN] if name in first}, events
    )
    return GroupCodesReport(
        title=config.title or config.name,
        taggers=taggers,
        titles={name: str(config.taggers[name].get("title") or name) for name in taggers},
        figure_groups=config.report.group_codes,
        exact_metrics=_exact_floors(events),
        translated_groups=moved,
        feature=feature,
        show_published=events.forward_model == EXAM_SCORES_MODEL,
        skipped_taggers=skip_messages,
        command=command_line(),
        config_text=config.text + "".join(f"\n# --set {one}" for one in config.overrides),
        versions=library_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _exact_floors(events: GroupedTestEvents) -> dict[str, Estimate]:
    """What the exact posterior comes to, of exam scores."""
    from hepdecorr.evaluation.group_codes.exam_scores import ExactPosterior, exact_posterior_metrics

    known = events.truth_with_forward_model
    if (
        events.forward_model != EXAM_SCORES_MODEL
        or known.forward_model is None
        or known.group is None
        or known.instance is None
    ):
        return {}
    x = next(iter(events.columns.values())).astype(np.float64)
    made = known.forward_model(known.group[events.group_index], known.instance)[:, 0]
    noise = float(np.sqrt(np.mean(np.square(x - made))))
    exact = ExactPosterior.from_scores(x, events.group_index, noise=noise)
    return exact_posterior_metrics(
        exact,
        events.group_index,
        translation_pairs(len(events.group_ids), seed=EVALUATION_SEED),
        seed=EVALUATION_SEED,
    )


def _translate_groups(
    models: Mapping[str, Path], events: GroupedTestEvents
) -> tuple[str, dict[str, list[TranslatedGroup]]]:
    """Of the first feature, some groups translated by each tagger, where the process is known."""
    known = events.truth_with_forward_model
    feature, moved = "", dict[str, list[TranslatedGroup]]()
    if (
        known.forward_model is None
        or known.group is None
        or known.instance is None
        or len(events.group_ids) < 2
    ):
        return feature, moved
    pairs = translation_pairs(len(events.group_ids), seed=EVALUATION_SEED)
    for name, folder in models.items():
        one = infer_codes(folder, events)
        if one.encode is None or one.decode is None:
            continue
        made = translate_events(
            one,
            known.forward_model,
            group_truth=known.group,
            instance_truth=known.instance,
            pairs=pairs,
            sample=False,
            seed=EVALUATION_SEED,
        )
        feature = feature or _features_of(folder)[0]
        for source in range(min(MAX_SHOWN, one.num_groups)):
            here, there = one.group_index == source, one.group_index == pairs.target_group[source]
            parts = (one.x[here], one.x[there], made.truth[here], made.predicted[here])
            moved.setdefault(name, []).append(TranslatedGroup(*(part[:, 0] for part in parts)))
    return feature, moved
