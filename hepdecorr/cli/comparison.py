"""Gathers evaluated taggers and scan points, measures them and their differences, and shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as Grid

from hepdecorr.card import Card
from hepdecorr.catalogue import suggest
from hepdecorr.cli import further, measuring
from hepdecorr.cli.stamps import command, versions
from hepdecorr.config import Config
from hepdecorr.errors import InputError
from hepdecorr.table import EVENT_IDS, Arrays, Selection, Table
from hepdecorr.validation import comparison
from hepdecorr.validation.comparison import Compared, CompareInput
from hepdecorr.validation.measures import Comparison, Protected, paired
from hepdecorr.validation.page import Cell

MOST = 20  # differences in one figure that are printed, the surest


def write(
    config: Config, *, models: Mapping[str, Path], scans: Sequence[str], table: Table | None, console: Console
) -> Path:
    """Compare the evaluated taggers (TAGGER-SEED -> folder) and the points of scans; print and write it."""
    from hepdecorr.columnar.tagger import OnnxTagger

    scores = Table.open(config.output_folder / "evaluation" / "scores")
    again = f"run 'hepdecorr evaluate {config.path.name}'"
    if missing := [name for name in models if name not in scores.names("score")]:
        raise InputError(f"{scores.folder}: {missing[0]} is not in it; {again}")
    more = further.found(scores, models)
    others = {name: more[name] for name in further.chosen(config, more)}  # compared as taggers are
    ids = [*config.nuisances, "label", "weight", *EVENT_IDS, *scores.names("group")]
    events = scores.read(list(dict.fromkeys([*models, *others, *ids])))
    taggers = {name: OnnxTagger(path, base=config.base) for name, path in models.items()}
    groups: dict[str, list[str]] = {}
    for name in [*models, *others]:
        groups.setdefault(further.tagger_of(name), []).append(name)
    series: dict[str, str] = {}
    for scan in scans:
        assert table is not None
        for label, folders in _points(config, scan).items():
            label = label if label not in groups else f"{scan}: {label}"
            series[label] = scan
            for folder in folders:
                tagger = OnnxTagger(folder, base=config.base)
                name = f"{scan}/{folder.name}"
                taggers[name] = tagger
                groups.setdefault(label, []).append(name)
        _add_scores(events, {n: t for n, t in taggers.items() if n.startswith(f"{scan}/")}, config, table)
    cards = {name: tagger.card for name, tagger in taggers.items()}
    cards |= further.cards(cards, others)
    measured = measuring.one_by_one(config, events, cards, console=console)
    with console.status("drawing the events again"):
        differences = _paired(config, events, groups)
    content = CompareInput(
        title=config.title or config.name,
        taggers={
            label: Compared(
                [one for name in names for one in measured[name]],
                [_plain(cards[name]) for name in names],
                series.get(label, ""),
            )
            for label, names in groups.items()
        },
        differences=differences,
        command=command(),
        config_text=config.text + "".join(f"\n# --set {o}" for o in config.overrides),
        versions=versions(),
        sample=f"the test events of {', '.join(scores.datasets)}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    page = comparison.write_comparison(config.output_folder / "compare", content)
    show(console, content)
    return page


def show(console: Console, content: CompareInput) -> None:
    """The tables, in the terminal."""
    for nuisance in content.nuisances:
        _print(console, f"protected: {nuisance}", *comparison.brief(content, nuisance))
    figures = content.differences.figures
    for figure in figures[:1] + figures[-1:] if len(figures) > 1 else figures:
        rows = [comparison.told(one) for one in comparison.separable(content, figure)]
        if rows:
            head = ["pair", "difference", "95 %", "seeds", "p (Holm)", "<verdict"]
            _print(console, f"differences in {figure}", head, rows[:MOST])
        if len(rows) > MOST:
            console.print(f"and {len(rows) - MOST} more pairs in the files")
    console.print(f"command: {content.command}", highlight=False, markup=False, soft_wrap=True)
    told = ", ".join(f"{name} {version}" for name, version in content.versions.items())
    console.print(f"versions: {told}", highlight=False, markup=False, soft_wrap=True)


def _print(console: Console, title: str, head: Sequence[str], rows: Sequence[Sequence[str | Cell]]) -> None:
    grid = Grid(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, name in enumerate(head):
        left = number == 0 or name.startswith("<")
        grid.add_column(name.removeprefix("<"), justify="left" if left else "right", overflow="fold")
    styles = {"good": "green", "bad": "red"}
    for row in rows:
        grid.add_row(
            *(
                f"[{styles[cell.kind]}]{_escaped(cell.content)}[/]"
                if isinstance(cell, Cell) and cell.kind in styles
                else _escaped(cell.content if isinstance(cell, Cell) else cell)
                for cell in row
            )
        )
    console.print(grid)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def _points(config: Config, scan: str) -> dict[str, list[Path]]:
    """Folders of the taggers of a finished scan's points, by the point's label."""
    home = config.output_folder / "scans"
    path = home / scan / "points.json"
    if not path.is_file():
        known = [one.parent.name for one in home.glob("*/points.json")]
        raise InputError(f"--scan {scan}: no finished scan{suggest(scan, known)}")
    try:
        content = json.loads(path.read_text())
        tagger, points = content["tagger"], content["points"]
        found = {
            f"{tagger} {point['label']}": [config.output_folder / folder for folder in point["folders"]]
            for point in points
            if point["folders"]
        }
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: damaged; run the scan again") from None
    for folders in found.values():
        for folder in folders:
            if not (folder / "tagger.onnx").is_file():
                raise InputError(f"{folder}: named by {path} but missing; run the scan again")
    return found


def _add_scores(events: Arrays, taggers: Mapping[str, Any], config: Config, table: Table) -> None:
    """Logits of scan points for the evaluated events, from the training table, which must hold the same."""
    from hepdecorr.columnar.scoring import table_logits

    select = Selection("test", config.table_split)
    names = list(dict.fromkeys([*EVENT_IDS, *config.nuisances, "label"]))
    own = table.read(names, select=select)
    ours, theirs = (np.lexsort([one[name] for name in names[::-1]]) for one in (events, own))
    same = len(ours) == len(theirs) and all(
        np.array_equal(events[name][ours], own[name][theirs]) for name in names
    )
    if not same:
        raise InputError(
            f"{table.folder}: its test events are not those that were evaluated; run 'hepdecorr evaluate "
            f"{config.path.name}' and the scan again"
        )
    for name, tagger in taggers.items():
        logits = table_logits(tagger, table, select=select)
        found = np.empty_like(logits)
        found[ours] = logits[theirs]
        events[name] = found


def _paired(config: Config, events: Arrays, groups: Mapping[str, Sequence[str]]) -> Comparison:
    protected = {
        name: Protected(events[name].astype(np.float64), (spec.low, spec.high), spec.bins)
        for name, spec in config.protected.items()
    }
    # Entries of one event go together; where every row is an event of its own there is nothing to join.
    numbers = np.stack([events[name] for name in EVENT_IDS]) if config.objects else None
    event = None if numbers is None else np.unique(numbers, axis=1, return_inverse=True)[1].reshape(-1)
    return paired(
        {label: [events[name] for name in names] for label, names in groups.items()},
        events["label"],
        weight=measuring.weights(events),
        protected=protected,
        rejections=tuple(config.working_points),
        event=event,
    )


def _plain(card: Card) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(card.to_json())
    return found
