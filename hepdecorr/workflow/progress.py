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

from hepdecorr.config.schema import Config
from hepdecorr.errors import InputError


@contextmanager
def progress_bars(console: Console) -> Iterator[Progress]:
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


class TaskProgress:
    """Moves a task's bar to the count it is called with."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def __call__(self, count: int) -> None:
        self._progress.update(self._task, completed=count)


@contextmanager
def prefix_errors(location: str) -> Iterator[None]:
    """Within it an InputError begins with the place of the YAML that is at fault."""
    try:
        yield
    except InputError as err:
        raise InputError(f"{location}: {err}") from None


@contextmanager
def locate_errors(config: Config, *keys: str | int) -> Iterator[None]:
    """Prefix an InputError that is raised inside with the line and the keys of the value at fault.

    Args:
        config: Configuration whose block is read inside.
        *keys: Keys of the block; the location of the error counts from there.

    Raises:
        InputError: The one raised inside, as `file.yaml:LINE: block.option: message`.
    """
    try:
        yield
    except InputError as err:
        raise InputError(f"{config.location_of(*keys, *err.location)}: {err.message}") from None


def read_branch_names(datasets: Iterable[Any], tree: str) -> list[str] | None:
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


def print_contents(console: Console, path: Path) -> None:
    """Print what a ROOT file, a table or a tagger holds."""
    if path.is_dir() and (path / "manifest.json").exists():
        _print_table(console, path)
    elif path.suffix == ".parquet":
        _print_group_codes(console, path)
    elif path.suffix == ".onnx" or (path.is_dir() and (path / "tagger.onnx").exists()):
        _print_tagger(console, path)
    elif path.is_file():
        _print_root_file(console, path)
    else:
        raise InputError(
            f"{path}: neither a ROOT file, nor a table's folder (manifest.json), nor a tagger's, nor codes"
        )


def _make_grid(title: str, *columns: str) -> Grid:
    grid = Grid(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        grid.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    return grid


def _print_properties(console: Console, title: str, properties: dict[str, Any]) -> None:
    grid = _make_grid(title, "", "")
    grid.columns[1].justify = "left"
    grid.show_header = False
    for key, value in properties.items():
        grid.add_row(key, str(value))
    console.print(grid)


def _print_table(console: Console, path: Path) -> None:
    from hepdecorr.table import Table

    table = Table.open(path)
    facts = {
        "rows": f"{table.num_rows:,}",
        "shards": len(table.shards),
        "fingerprint": table.fingerprint[:16],
    }
    _print_properties(console, f"table {path}", facts)
    rows = _make_grid("datasets", "name", "label", "use", "rows", "sum of weights")
    for name, meta in table.datasets.items():
        n = sum(s.rows for s in table.shards if s.dataset == name)
        label = {0: "background", 1: "signal"}.get(meta.get("label", -1), "none")
        label = "outlier" if meta.get("outlier") else label
        rows.add_row(name, label, meta.get("use", "all"), f"{n:,}", f"{meta.get('sumw', float('nan')):,.6g}")
    console.print(rows)
    columns = _make_grid("columns", "name", "role", "unit")
    for c in table.columns:
        columns.add_row(c.name, c.role, c.unit)
    console.print(columns)


def _print_tagger(console: Console, path: Path) -> None:
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
        low, middle, high = context.group_sizes
        facts |= {
            "groups": f"{', '.join(context.group_features)}; in training {low:,} to {high:,} events, "
            f"median {middle:,}",
            "code": f"{context.latents} numbers, from sums of {context.num_summands} over a group's events",
            "code comes from": _describe_group_graphs(path),
        }
    _print_properties(console, f"tagger {card.name}", facts)
    points = _make_grid(
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


def _describe_group_graphs(path: Path) -> str:
    """The graphs that codes of groups are computed with, and which of them are missing."""
    from hepdecorr.columnar.group_codes import GROUP_FILE, SUMMANDS_FILE

    folder = path if path.is_dir() else path.parent
    names = [
        name if (folder / name).is_file() else f"{name} (missing)" for name in (SUMMANDS_FILE, GROUP_FILE)
    ]
    return ", ".join(names)


def _print_group_codes(console: Console, path: Path) -> None:
    import numpy as np

    from hepdecorr.columnar.group_codes import GroupCodes

    codes = GroupCodes.open(path)
    facts = {
        "of tagger": codes.tagger_name,
        "its sha256": codes.tagger_sha256[:16],
        "groups": codes.summary(),
    }
    _print_properties(console, f"codes of groups {path}", facts)
    rows = _make_grid("codes", "number", "mean over groups", "deviation between groups", "median uncertainty")
    for k, (mean, log_var) in enumerate(zip(codes.mean.T, codes.log_var.T, strict=True)):
        if len(codes):
            own = (mean.mean(), mean.std(), np.exp(0.5 * np.median(log_var)))
            rows.add_row(f"code_{k}", *(f"{value:.4g}" for value in own))
    console.print(rows)


def _print_root_file(console: Console, path: Path) -> None:
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
            rows = _make_grid(f"{name}: {tree.num_entries:,} entries", "branch", "type")
            for branch in tree.branches:
                rows.add_row(branch.name, branch.typename)
            console.print(rows)
        for key, value in _load_provenance(path).items():
            console.print(f"{key}: {value}", highlight=False, markup=False)


def _load_provenance(path: Path) -> dict[str, Any]:
    from hepdecorr.samples import read_provenance

    try:
        return dict(read_provenance(path))
    except (InputError, KeyError):
        return {}
