"""What the terminal shows: progress, and what a file holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table as Grid

from hepdecorr.errors import InputError


@contextmanager
def progress(console: Console) -> Iterator[Progress]:
    """A progress bar per task, on the console; nothing when it is quiet."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=console, disable=console.quiet) as bars:
        yield bars


class Advance:
    """Moves a task's bar to the count it is called with."""

    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def __call__(self, count: int) -> None:
        self._bars.update(self._task, completed=count)


@contextmanager
def blamed(place: str) -> Iterator[None]:
    """Within it an InputError begins with the place of the YAML that is at fault."""
    try:
        yield
    except InputError as err:
        raise InputError(f"{place}: {err}") from None


def branches(datasets: Iterable[Any], tree: str) -> list[str] | None:
    """Branches of the first local file that can be read; None if there is none."""
    import uproot

    for dataset in datasets:
        for file in dataset.files:
            if not Path(file).is_file():
                continue
            try:
                with uproot.open(file) as opened:
                    return [branch.name for branch in opened[dataset.trees.get(file, tree)].branches]
            except Exception:  # the run itself says what is wrong with a file
                continue
    return None


def inspect(console: Console, path: Path) -> None:
    """Print what a ROOT file, a table or a tagger holds."""
    if path.is_dir() and (path / "manifest.json").exists():
        _table(console, path)
    elif path.suffix == ".parquet":
        _codes(console, path)
    elif path.suffix == ".onnx" or (path.is_dir() and (path / "tagger.onnx").exists()):
        _tagger(console, path)
    elif path.is_file():
        _root(console, path)
    else:
        raise InputError(
            f"{path}: neither a ROOT file, nor a table's folder (manifest.json), nor a tagger's, nor codes"
        )


def _grid(title: str, *columns: str) -> Grid:
    grid = Grid(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        grid.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    return grid


def _facts(console: Console, title: str, facts: dict[str, Any]) -> None:
    grid = _grid(title, "", "")
    grid.columns[1].justify = "left"
    grid.show_header = False
    for key, value in facts.items():
        grid.add_row(key, str(value))
    console.print(grid)


def _table(console: Console, path: Path) -> None:
    from hepdecorr.table import Table

    table = Table.open(path)
    facts = {"rows": f"{table.rows:,}", "shards": len(table.shards), "fingerprint": table.fingerprint[:16]}
    _facts(console, f"table {path}", facts)
    rows = _grid("datasets", "name", "label", "use", "rows", "sum of weights")
    for name, meta in table.datasets.items():
        n = sum(s.rows for s in table.shards if s.dataset == name)
        label = {0: "background", 1: "signal"}.get(meta.get("label", -1), "none")
        label = "outlier" if meta.get("outlier") else label
        rows.add_row(name, label, meta.get("use", "all"), f"{n:,}", f"{meta.get('sumw', float('nan')):,.6g}")
    console.print(rows)
    columns = _grid("columns", "name", "role", "unit")
    for c in table.columns:
        columns.add_row(c.name, c.role, c.unit)
    console.print(columns)


def _tagger(console: Console, path: Path) -> None:
    from hepdecorr.columnar.tagger import OnnxTagger

    card = OnnxTagger(path).card
    facts: dict[str, Any] = {
        "method": card.method.get("type"),
        "seed": card.seed,
        "created": card.created,
        "table": card.table_fingerprint[:16],
        "protects": ", ".join(f"{n.name} in [{n.low:g}, {n.high:g}] {n.unit}" for n in card.nuisances),
        "inputs": ", ".join(
            f.name + (f" [{f.unit}]" if f.unit else "") for i in card.inputs for f in i.features
        ),
        "made with": ", ".join(f"{k} {v}" for k, v in card.versions.items()),
    }
    facts |= {f"conventions: {k}": v for k, v in card.conventions.items()}
    if context := card.context:
        low, middle, high = context.counts
        facts |= {
            "groups": f"{', '.join(context.of)}; in training {low:,} to {high:,} events, median {middle:,}",
            "code": f"{context.latents} numbers, from sums of {context.summands} over a group's events",
            "code comes from": _beside(path),
        }
    _facts(console, f"tagger {card.name}", facts)
    points = _grid(
        "working points", "background rejection", "logit above", "signal efficiency", "fixed on (events)"
    )
    for p in card.working_points:
        row = (
            f"{p.rejection:g}",
            f"{p.threshold:.4f}",
            "–" if p.signal_efficiency is None else f"{p.signal_efficiency:.4f}",
            f"{p.background_events:,}",
        )
        points.add_row(*row)
    console.print(points)


def _beside(path: Path) -> str:
    """The graphs that codes of groups are computed with, and which of them are missing."""
    from hepdecorr.columnar.groups import GROUP, MEMBERS

    folder = path if path.is_dir() else path.parent
    names = [name if (folder / name).is_file() else f"{name} (missing)" for name in (MEMBERS, GROUP)]
    return ", ".join(names)


def _codes(console: Console, path: Path) -> None:
    import numpy as np

    from hepdecorr.columnar.groups import GroupCodes

    codes = GroupCodes.open(path)
    facts = {"of tagger": codes.name, "its sha256": codes.tagger[:16], "groups": codes.summary()}
    _facts(console, f"codes of groups {path}", facts)
    rows = _grid("codes", "number", "mean over groups", "deviation between groups", "median uncertainty")
    for k, (mean, log_var) in enumerate(zip(codes.mean.T, codes.log_var.T, strict=True)):
        if len(codes):
            own = (mean.mean(), mean.std(), np.exp(0.5 * np.median(log_var)))
            rows.add_row(f"code_{k}", *(f"{value:.4g}" for value in own))
    console.print(rows)


def _root(console: Console, path: Path) -> None:
    import uproot

    try:
        file = uproot.open(path)
    except Exception as err:  # uproot raises what the broken bytes lead it to
        reason = str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
        raise InputError(f"{path}: not a readable ROOT file ({reason})") from None
    with file:
        trees = file.keys(filter_classname="TTree", cycle=False)
        if not trees:
            held = ", ".join(file.keys(cycle=False)) or "nothing"
            raise InputError(f"{path}: no TTree in it; it holds {held}")
        for name in trees:
            tree = file[name]
            rows = _grid(f"{name}: {tree.num_entries:,} entries", "branch", "type")
            for branch in tree.branches:
                rows.add_row(branch.name, branch.typename)
            console.print(rows)
        for key, value in _provenance(path).items():
            console.print(f"{key}: {value}", highlight=False, markup=False)


def _provenance(path: Path) -> dict[str, Any]:
    from hepdecorr.samples import read_provenance

    try:
        return dict(read_provenance(path))
    except (InputError, KeyError):
        return {}
