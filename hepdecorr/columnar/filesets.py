"""Which files are read, and as what: filesets from an analysis YAML or in coffea's own forms.

The sum of weights of a dataset, for those whose cross-section is known and whose sum is not.
"""

from __future__ import annotations

import glob
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files as resources
from pathlib import Path
from typing import Any, Literal

from hepdecorr.columnar import selection as selection_module
from hepdecorr.errors import InputError, suggest

logger = logging.getLogger(__name__)

LABELS = {"background": 0, "signal": 1}
OUTLIER_LABEL = "outlier"  # signal that taggers train against, and none is tested with
DATASET_USES = ("all", "train", "test")
BUILTIN_PREFIX = "builtin:"

_METADATA_FIELDS = ("label", "outlier", "title", "use", "xsec", "sumw", "selection")
_DATASET_KEYS = ("files", "metadata", "treename", *_METADATA_FIELDS)
# coffea keeps these for itself and refuses them among a dataset's metadata.
_COFFEA_RESERVED = {
    "dataset",
    "filename",
    "treename",
    "metadata",
    "entrystart",
    "entrystop",
    "fileuuid",
    "numentries",
}
_COFFEA_RESERVED |= {"uuid", "clusters", "preload"}


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
    selection: tuple[selection_module.Cut, ...] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    trees: dict[str, str] = field(default_factory=dict)
    outlier: bool | None = None


def expand_fileset(
    spec: Any, *, base: Path, require_labels: bool = True, background_only: bool = False
) -> list[Dataset]:
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
        spec, base, place = _read_fileset(path), path.parent, str(spec)
    else:
        place = "datasets"
    if not isinstance(spec, Mapping) or not spec:
        raise InputError(f"{place}: a fileset is a mapping of dataset names to files")
    datasets = [
        _make_dataset(str(k), v, base=base, location=f"{place}: dataset {k!r}") for k, v in spec.items()
    ]
    _warn_about_shared_files(datasets)
    if require_labels:
        _require_labels(datasets, place, background_only=background_only)
    return datasets


def to_coffea(datasets: Sequence[Dataset], *, treename: str = "Events") -> dict[str, dict[str, Any]]:
    """The fileset in coffea's form {name: {files: {path: tree}, metadata: {...}}}.

    The metadata (label, title, use, xsec, sumw, selection and the user's own) arrive in `events.metadata`.
    """
    return {
        d.name: {"files": {f: d.trees.get(f, treename) for f in d.files}, "metadata": describe_dataset(d)}
        for d in datasets
    }


def describe_dataset(dataset: Dataset) -> dict[str, Any]:
    """Label, outlier, title, use, xsec, sumw, selection and the user's metadata, where not None."""
    content = asdict(dataset) | {"selection": dataset.selection and list(dataset.selection)}
    return {**dataset.metadata, **{k: content[k] for k in _METADATA_FIELDS if content[k] is not None}}


def _read_fileset(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such fileset file; give a JSON or YAML file, or a mapping")
    if path.suffix != ".json":
        from hepdecorr.config.yaml_source import read_yaml

        return read_yaml(path)
    try:
        return json.loads(path.read_text())
    except ValueError as err:
        raise InputError(f"{path}: not valid JSON: {err}") from None


def _make_dataset(name: str, value: Any, *, base: Path, location: str) -> Dataset:
    if not isinstance(value, Mapping):
        value = {"files": value}
    for key in value:
        if key not in _DATASET_KEYS:
            raise InputError(f"{location}: unknown key {key!r}{suggest(str(key), _DATASET_KEYS)}")
    if not value.get("files"):
        raise InputError(f"{location}: it has no files; give paths or globs under 'files'")
    metadata = dict(value.get("metadata") or {})
    own = {k: metadata.pop(k) for k in _METADATA_FIELDS if k in metadata} | {
        k: value[k] for k in _METADATA_FIELDS if k in value
    }
    if taken := sorted(_COFFEA_RESERVED & set(metadata)):
        raise InputError(
            f"{location}: metadata {taken[0]!r} is a word that coffea keeps for itself; rename it"
        )
    # The second is how `describe` says it.
    outlier = own.get("label") == OUTLIER_LABEL or (own.get("label") == 1 and own.get("outlier") is True)
    files, trees = _expand_files(value["files"], base=base, location=location)
    if tree := value.get("treename"):
        trees = dict.fromkeys(files, str(tree)) | trees
    return Dataset(
        name,
        files,
        label=_parse_label(own.get("label"), location),
        title=str(own.get("title") or name),
        use=_parse_use(own.get("use", "train" if outlier else "all"), location, is_outlier=outlier),
        xsec=_parse_positive(own.get("xsec"), f"{location}: xsec"),
        sumw=_parse_positive(own.get("sumw"), f"{location}: sumw"),
        selection=_parse_selection(own.get("selection"), location),
        metadata=metadata,
        trees=trees,
        outlier=outlier or None,
    )


def _expand_files(spec: Any, *, base: Path, location: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Expanded paths in the order given, and the trees of those that came with one."""
    trees: dict[str, str] = {}
    expanded: list[str] = []
    patterns = [spec] if isinstance(spec, str | Path) else list(spec)
    for pattern in patterns:
        if not isinstance(pattern, str | Path):
            raise InputError(f"{location}: {pattern!r} is no path; 'files' holds paths, globs or URLs")
        found = _expand_pattern(str(pattern), base=base, location=location)
        expanded += found
        if isinstance(spec, Mapping) and (tree := _parse_tree(spec[pattern], location)):
            trees |= dict.fromkeys(found, tree)
    if twice := sorted({f for f in expanded if expanded.count(f) > 1}):
        raise InputError(f"{location}: {twice[0]} is listed twice, so its events would count twice")
    return tuple(expanded), trees


def _parse_tree(value: Any, location: str) -> str | None:
    # coffea writes {path: tree}, and {path: {object_path: tree, ...}} once it has preprocessed the files.
    if isinstance(value, Mapping):
        value = value.get("object_path")
    if value is None or isinstance(value, str):
        return value
    raise InputError(f"{location}: {value!r} is no name of a tree")


def _expand_pattern(pattern: str, *, base: Path, location: str) -> list[str]:
    if "://" in pattern:
        return [pattern]
    if pattern.startswith(BUILTIN_PREFIX):
        return [_find_builtin(pattern.removeprefix(BUILTIN_PREFIX), location)]
    path = base / Path(pattern).expanduser()
    # A name may itself contain '[': an existing file is never a glob.
    if path.is_file():
        return [str(path.resolve())]
    if path.is_dir():
        pattern, path = f"{pattern}/*.root", path / "*.root"
    elif not glob.has_magic(pattern):
        raise InputError(f"{location}: no file {pattern} (looked for {path})")
    found = sorted(str(Path(p).resolve()) for p in glob.glob(str(path), recursive=True))  # noqa: PTH207
    if not found:
        raise InputError(f"{location}: no file matches {pattern} (looked for {path})")
    return found


def _find_builtin(name: str, location: str) -> str:
    folder = Path(str(resources("hepdecorr"))) / "samples" / "data"
    known = sorted(p.name for p in folder.glob("*.root"))
    if name not in known:
        raise InputError(f"{location}: no built-in sample {name!r}{suggest(name, known)}")
    return str(folder / name)


def _parse_label(value: Any, location: str) -> int | None:
    if value is None:
        return None
    if value == OUTLIER_LABEL:
        return LABELS["signal"]
    if isinstance(value, str) and value in LABELS:
        return LABELS[value]
    if isinstance(value, int) and not isinstance(value, bool) and value in (0, 1):
        return int(value)
    raise InputError(f"{location}: label {value!r} is none of 'signal', 'background' and 'outlier'")


def _parse_use(value: Any, location: str, *, is_outlier: bool) -> Any:
    if value not in DATASET_USES:
        raise InputError(f"{location}: use {value!r} is none of {', '.join(DATASET_USES)}")
    if is_outlier and value != "train":
        raise InputError(f"{location}: outliers are for training alone; write 'use: train', or leave it out")
    return value


def _parse_selection(value: Any, location: str) -> tuple[selection_module.Cut, ...] | None:
    if not value:
        return None
    try:
        return tuple(selection_module.validate_cuts(value))
    except InputError as err:
        raise InputError(f"{location}: {err}") from None


def _parse_positive(value: Any, location: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"{location} must be a number above 0 (given: {value!r})")
    return float(value)


def _require_labels(datasets: Sequence[Dataset], location: str, *, background_only: bool) -> None:
    for d in datasets:
        if d.label is None:
            raise InputError(
                f"{location}: dataset {d.name!r} has no label; add 'label: signal' or 'background'"
            )
    for name, label in LABELS.items():
        if background_only and label:
            continue
        if all(d.label != label or d.outlier for d in datasets):
            names = ", ".join(repr(d.name) for d in datasets)
            raise InputError(
                f"{location}: no dataset of label '{name}' among {names}; both classes are needed"
            )


def _warn_about_shared_files(datasets: Sequence[Dataset]) -> None:
    owner: dict[str, Dataset] = {}
    for d in datasets:
        for f in d.files:
            # Two that each select may well share out a file by a label in it.
            if f in owner and not (d.selection and owner[f].selection):
                logger.warning(
                    "%s belongs to datasets %r and %r: its events count twice", f, owner[f].name, d.name
                )
            owner[f] = d
