"""Which files are read, and as what: filesets from an analysis YAML or in coffea's own forms."""

from __future__ import annotations

import glob
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files as resources
from pathlib import Path
from typing import Any, Literal

from hepdecorr.catalogue import suggest
from hepdecorr.columnar import cuts
from hepdecorr.errors import InputError

logger = logging.getLogger(__name__)

LABELS = {"background": 0, "signal": 1}
OUTLIER = "outlier"  # signal that taggers train against, and none is tested with
USES = ("all", "train", "test")
BUILTIN = "builtin:"

_OWN = ("label", "outlier", "title", "use", "xsec", "sumw", "selection")
_KEYS = ("files", "metadata", "treename", *_OWN)
# coffea keeps these for itself and refuses them among a dataset's metadata.
_RESERVED = {
    "dataset",
    "filename",
    "treename",
    "metadata",
    "entrystart",
    "entrystop",
    "fileuuid",
    "numentries",
}
_RESERVED |= {"uuid", "clusters", "preload"}


@dataclass(frozen=True)
class Dataset:
    """Files of one physics process.

    `label` is 1 for signal, 0 for background, and None where the caller asked for no labels; `outlier` says
    of a signal that it is for training alone (`label: outlier`).  `xsec` is in pb.  `selection` holds cuts
    for this dataset alone (rows.select), such as a truth label.  `trees` names the trees of those files for
    which the fileset gave one.
    """

    name: str
    files: tuple[str, ...]
    label: int | None = None
    title: str = ""
    use: Literal["all", "train", "test"] = "all"
    xsec: float | None = None
    sumw: float | None = None
    selection: tuple[cuts.Cut, ...] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    trees: dict[str, str] = field(default_factory=dict)
    outlier: bool | None = None


def expand(spec: Any, *, base: Path, labels: bool = True, alone: bool = False) -> list[Dataset]:
    """The datasets of `spec`, with globs expanded and every local file known to exist.

    `spec` is a mapping {name: files} or {name: {files, label, title, use, xsec, sumw, selection, metadata,
    treename}}, or the path of a JSON or YAML file that holds one.  `files` is a path, a glob, a folder (all
    its *.root), a list of these, or coffea's {path: tree}; own keys may also stand in `metadata`.  Relative
    paths count from `base`, or from the fileset file that holds them; `builtin:NAME` is a sample of the
    package; URLs such as root://server//path pass through.  With `labels`, each dataset needs a label and
    both classes must be there, with `alone` background at least.  Raises InputError that names the dataset
    and the place.
    """
    if isinstance(spec, str | Path):
        path = base / spec
        spec, base, place = _read(path), path.parent, str(spec)
    else:
        place = "datasets"
    if not isinstance(spec, Mapping) or not spec:
        raise InputError(f"{place}: a fileset is a mapping of dataset names to files")
    datasets = [_dataset(str(k), v, base=base, place=f"{place}: dataset {k!r}") for k, v in spec.items()]
    _warn_of_shared_files(datasets)
    if labels:
        _require_labels(datasets, place, alone=alone)
    return datasets


def to_coffea(datasets: Sequence[Dataset], *, treename: str = "Events") -> dict[str, dict[str, Any]]:
    """The fileset in coffea's form {name: {files: {path: tree}, metadata: {...}}}.

    The metadata (label, title, use, xsec, sumw, selection and the user's own) arrive in `events.metadata`.
    """
    return {
        d.name: {"files": {f: d.trees.get(f, treename) for f in d.files}, "metadata": describe(d)}
        for d in datasets
    }


def describe(dataset: Dataset) -> dict[str, Any]:
    """Label, outlier, title, use, xsec, sumw, selection and the user's metadata, where not None."""
    content = asdict(dataset) | {"selection": dataset.selection and list(dataset.selection)}
    return {**dataset.metadata, **{k: content[k] for k in _OWN if content[k] is not None}}


def _read(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such fileset file; give a JSON or YAML file, or a mapping")
    if path.suffix != ".json":
        from hepdecorr.document import read_yaml

        return read_yaml(path)
    try:
        return json.loads(path.read_text())
    except ValueError as err:
        raise InputError(f"{path}: not valid JSON: {err}") from None


def _dataset(name: str, value: Any, *, base: Path, place: str) -> Dataset:
    if not isinstance(value, Mapping):
        value = {"files": value}
    for key in value:
        if key not in _KEYS:
            raise InputError(f"{place}: unknown key {key!r}{suggest(str(key), _KEYS)}")
    if not value.get("files"):
        raise InputError(f"{place}: it has no files; give paths or globs under 'files'")
    metadata = dict(value.get("metadata") or {})
    own = {k: metadata.pop(k) for k in _OWN if k in metadata} | {k: value[k] for k in _OWN if k in value}
    if taken := sorted(_RESERVED & set(metadata)):
        raise InputError(f"{place}: metadata {taken[0]!r} is a word that coffea keeps for itself; rename it")
    # The second is how `describe` says it.
    outlier = own.get("label") == OUTLIER or (own.get("label") == 1 and own.get("outlier") is True)
    files, trees = _files(value["files"], base=base, place=place)
    if tree := value.get("treename"):
        trees = dict.fromkeys(files, str(tree)) | trees
    return Dataset(
        name,
        files,
        label=_label(own.get("label"), place),
        title=str(own.get("title") or name),
        use=_use(own.get("use", "train" if outlier else "all"), place, outlier=outlier),
        xsec=_positive(own.get("xsec"), f"{place}: xsec"),
        sumw=_positive(own.get("sumw"), f"{place}: sumw"),
        selection=_selection(own.get("selection"), place),
        metadata=metadata,
        trees=trees,
        outlier=outlier or None,
    )


def _files(given: Any, *, base: Path, place: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Expanded paths in the order given, and the trees of those that came with one."""
    trees: dict[str, str] = {}
    expanded: list[str] = []
    patterns = [given] if isinstance(given, str | Path) else list(given)
    for pattern in patterns:
        if not isinstance(pattern, str | Path):
            raise InputError(f"{place}: {pattern!r} is no path; 'files' holds paths, globs or URLs")
        found = _paths(str(pattern), base=base, place=place)
        expanded += found
        if isinstance(given, Mapping) and (tree := _tree(given[pattern], place)):
            trees |= dict.fromkeys(found, tree)
    if twice := sorted({f for f in expanded if expanded.count(f) > 1}):
        raise InputError(f"{place}: {twice[0]} is listed twice, so its events would count twice")
    return tuple(expanded), trees


def _tree(value: Any, place: str) -> str | None:
    # coffea writes {path: tree}, and {path: {object_path: tree, ...}} once it has preprocessed the files.
    if isinstance(value, Mapping):
        value = value.get("object_path")
    if value is None or isinstance(value, str):
        return value
    raise InputError(f"{place}: {value!r} is no name of a tree")


def _paths(pattern: str, *, base: Path, place: str) -> list[str]:
    if "://" in pattern:
        return [pattern]
    if pattern.startswith(BUILTIN):
        return [_builtin(pattern.removeprefix(BUILTIN), place)]
    path = base / Path(pattern).expanduser()
    # A name may itself contain '[': an existing file is never a glob.
    if path.is_file():
        return [str(path.resolve())]
    if path.is_dir():
        pattern, path = f"{pattern}/*.root", path / "*.root"
    elif not glob.has_magic(pattern):
        raise InputError(f"{place}: no file {pattern} (looked for {path})")
    found = sorted(str(Path(p).resolve()) for p in glob.glob(str(path), recursive=True))  # noqa: PTH207
    if not found:
        raise InputError(f"{place}: no file matches {pattern} (looked for {path})")
    return found


def _builtin(name: str, place: str) -> str:
    folder = Path(str(resources("hepdecorr"))) / "samples" / "data"
    known = sorted(p.name for p in folder.glob("*.root"))
    if name not in known:
        raise InputError(f"{place}: no built-in sample {name!r}{suggest(name, known)}")
    return str(folder / name)


def _label(value: Any, place: str) -> int | None:
    if value is None:
        return None
    if value == OUTLIER:
        return LABELS["signal"]
    if isinstance(value, str) and value in LABELS:
        return LABELS[value]
    if isinstance(value, int) and not isinstance(value, bool) and value in (0, 1):
        return int(value)
    raise InputError(f"{place}: label {value!r} is none of 'signal', 'background' and 'outlier'")


def _use(value: Any, place: str, *, outlier: bool) -> Any:
    if value not in USES:
        raise InputError(f"{place}: use {value!r} is none of {', '.join(USES)}")
    if outlier and value != "train":
        raise InputError(f"{place}: outliers are for training alone; write 'use: train', or leave it out")
    return value


def _selection(value: Any, place: str) -> tuple[cuts.Cut, ...] | None:
    if not value:
        return None
    try:
        return tuple(cuts.checked(value))
    except InputError as err:
        raise InputError(f"{place}: {err}") from None


def _positive(value: Any, place: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"{place} must be a number above 0 (given: {value!r})")
    return float(value)


def _require_labels(datasets: Sequence[Dataset], place: str, *, alone: bool) -> None:
    for d in datasets:
        if d.label is None:
            raise InputError(f"{place}: dataset {d.name!r} has no label; add 'label: signal' or 'background'")
    for name, label in LABELS.items():
        if alone and label:
            continue
        if all(d.label != label or d.outlier for d in datasets):
            names = ", ".join(repr(d.name) for d in datasets)
            raise InputError(f"{place}: no dataset of label '{name}' among {names}; both classes are needed")


def _warn_of_shared_files(datasets: Sequence[Dataset]) -> None:
    owner: dict[str, Dataset] = {}
    for d in datasets:
        for f in d.files:
            # Two that each select may well share out a file by a label in it.
            if f in owner and not (d.selection and owner[f].selection):
                logger.warning(
                    "%s belongs to datasets %r and %r: its events count twice", f, owner[f].name, d.name
                )
            owner[f] = d
