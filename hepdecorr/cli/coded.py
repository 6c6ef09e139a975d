"""Measures what taggers know of groups and of events apart from them, on test groups, and shows it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl
from rich.console import Console

from hepdecorr.cli import show
from hepdecorr.cli.coding import Events, inferred
from hepdecorr.cli.further import tagger_of
from hepdecorr.cli.measuring import kept
from hepdecorr.cli.stamps import Stamp, code, command, digest, versions
from hepdecorr.config import Config
from hepdecorr.errors import InputError
from hepdecorr.table import Table
from hepdecorr.validation.content import write as write_file
from hepdecorr.validation.measures.code_evaluation import CodeMeasures, evaluate_codes
from hepdecorr.validation.measures.codes import partners, translate
from hepdecorr.validation.measures.numbers import Measured
from hepdecorr.validation.plots.codes import Moved

EXAM_SCORES = "exam_scores"  # the process whose exact posterior is known
SHOWN = 4  # taggers, and pairs of groups, in the figure of translations
SEED = 0  # of draws, halves and pairs: the same for every tagger


def write(
    config: Config,
    *,
    models: Mapping[str, Path],
    table: Table,
    folder: Path,
    console: Console,
    redo: bool = False,
) -> tuple[Path, bool]:
    """folder/{groups.html, groups.json, figures/} of trained taggers (TAGGER-SEED -> folder).

    Returns the page, and whether it was there already.  What was measured before is read from
    folder/measured, unless `redo`.
    """
    from hepdecorr.validation.coded import write_codes

    if config.groups is None:
        raise InputError(
            f"{config.path}: the config names no groups; say what groups events with 'groups: {{of: run}}'"
        )
    coded, without = _with_codes(models)
    keys = {name: _key(config, table, path) for name, path in coded.items()}
    stamp = Stamp(folder / "stamp.json", digest(keys, without, config.digest("report", "taggers", "title")))
    page = folder / "groups.html"
    if not redo and stamp.fits(page, folder / "groups.json"):
        return page, True
    stamp.remove(page, folder / "groups.json")
    features = [name for path in coded.values() for name in _features(path)]
    events = Events.of(config, table, list(dict.fromkeys(features)))
    found = _measured(config, coded, events, keys, folder / "measured", console=console, redo=redo)
    with console.status("drawing the codes"):
        write_codes(folder, _content(config, coded, events, found, without))
    stamp.write(taggers=sorted(coded))
    return page, False


def _with_codes(models: Mapping[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """Those with codes of groups; and what to say of the others."""
    from hepdecorr.columnar.graphs import Graph

    coded = {name: path for name, path in models.items() if Graph(path, batch_size=1).card.context}
    if not coded:
        raise InputError(
            f"{', '.join(models)}: none is told of groups; train a GroupVAE or a Contextual, or choose one "
            "with --only"
        )
    without = dict.fromkeys(tagger_of(name) for name in models if name not in coded)
    return coded, [f"{name}: it is told of no groups, so there are no codes to measure" for name in without]


def _features(folder: Path) -> list[str]:
    from hepdecorr.columnar.group_decoding import GroupDecoding

    tagger = GroupDecoding(folder)
    return [*tagger.card.feature_names, *tagger.represented]


def _key(config: Config, table: Table, folder: Path) -> str:
    """Digest of all that the measures of a tagger depend on."""
    graphs = [path for path in sorted(folder.glob("*.onnx")) if path.name != "generator.onnx"]
    assert config.groups is not None
    truth = config.groups.truth
    own = [config.base / truth.process.partition(":")[0]] if ".py:" in truth.process else []
    return digest(table.fingerprint, graphs, truth.model_dump(), own, config.digest("split"), code("groups"))


def _measured(
    config: Config,
    models: Mapping[str, Path],
    events: Events,
    keys: Mapping[str, str],
    folder: Path,
    *,
    console: Console,
    redo: bool,
) -> dict[str, CodeMeasures]:
    """Measures by TAGGER-SEED."""
    paths = {name: folder / f"{name}-{keys[name][:24]}.json" for name in models}
    known = {name: None if redo else kept(CodeMeasures, path) for name, path in paths.items()}
    found = {name: one for name, one in known.items() if one is not None}
    work = {name: path for name, path in models.items() if name not in found}
    workers = min(config.training.jobs, len(work))
    with show.progress(console) as bars:
        task = bars.add_task("codes", total=len(models), completed=len(found), note="")
        for name, ready in _alone(work, events) if workers <= 1 else _together(work, events, workers):
            with show.blamed(name):
                found[name] = ready()
            write_file(paths[name], found[name].to_json().encode())
            bars.advance(task)
    return {name: found[name] for name in models}


def _alone(work: Mapping[str, Path], events: Events) -> Iterator[tuple[str, Any]]:
    with threadpoolctl.threadpool_limits(limits=1):
        for name, path in work.items():
            yield name, partial(_evaluated, path, events)


def _together(work: Mapping[str, Path], events: Events, workers: int) -> Iterator[tuple[str, Any]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_single) as pool:
        futures = {pool.submit(_evaluated, path, events): name for name, path in work.items()}
        for future in as_completed(futures):
            yield futures[future], future.result


def _single() -> None:
    threadpoolctl.threadpool_limits(limits=1)


def _evaluated(folder: Path, events: Events) -> CodeMeasures:
    return evaluate_codes(inferred(folder, events), events.known, seed=SEED)


def _content(
    config: Config,
    models: Mapping[str, Path],
    events: Events,
    found: Mapping[str, CodeMeasures],
    without: Sequence[str],
) -> Any:
    from hepdecorr.validation.coded import CodesInput

    taggers: dict[str, dict[int, CodeMeasures]] = {}
    for name, one in found.items():
        taggers.setdefault(tagger_of(name), {})[int(name.rpartition("-")[2])] = one
    first = {name: models[f"{name}-{next(iter(seeds))}"] for name, seeds in taggers.items()}
    shown = next(iter(config.report.codes.values()), list(taggers))
    feature, moved = _moved({name: first[name] for name in shown[:SHOWN] if name in first}, events)
    return CodesInput(
        title=config.title or config.name,
        taggers=taggers,
        titles={name: str(config.taggers[name].get("title") or name) for name in taggers},
        chosen=config.report.codes,
        floors=_floors(events),
        moved=moved,
        feature=feature,
        published=events.process == EXAM_SCORES,
        left_out=without,
        command=command(),
        config_text=config.text + "".join(f"\n# --set {one}" for one in config.overrides),
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _floors(events: Events) -> dict[str, Measured]:
    """What the exact posterior comes to, of exam scores."""
    from hepdecorr.validation.measures.exam_scores import Exact, floors

    known = events.known
    if (
        events.process != EXAM_SCORES
        or known.process is None
        or known.group is None
        or known.instance is None
    ):
        return {}
    x = next(iter(events.columns.values())).astype(np.float64)
    made = known.process(known.group[events.group], known.instance)[:, 0]
    noise = float(np.sqrt(np.mean(np.square(x - made))))
    exact = Exact.of(x, events.group, noise=noise)
    return floors(exact, events.group, partners(len(events.ids), seed=SEED), seed=SEED)


def _moved(models: Mapping[str, Path], events: Events) -> tuple[str, dict[str, list[Moved]]]:
    """Of the first feature, some groups translated by each tagger, where the process is known."""
    known = events.known
    feature, moved = "", dict[str, list[Moved]]()
    if known.process is None or known.group is None or known.instance is None or len(events.ids) < 2:
        return feature, moved
    pairs = partners(len(events.ids), seed=SEED)
    for name, folder in models.items():
        one = inferred(folder, events)
        if one.encode is None or one.decode is None:
            continue
        made = translate(
            one,
            known.process,
            group_truth=known.group,
            instance_truth=known.instance,
            pairs=pairs,
            samples=False,
            seed=SEED,
        )
        feature = feature or _features(folder)[0]
        for source in range(min(SHOWN, one.groups)):
            here, there = one.group == source, one.group == pairs.target[source]
            parts = (one.x[here], one.x[there], made.true[here], made.made[here])
            moved.setdefault(name, []).append(Moved(*(part[:, 0] for part in parts)))
    return feature, moved
