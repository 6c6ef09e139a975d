"""The analysis YAML: read, checked strictly, with errors that name the line; the only reader of YAML."""

from __future__ import annotations

import hashlib
import json
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.table import Split

Place = tuple[str | int, ...]  # keys and indices that lead to a value of the YAML


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Dataset(_Section):
    """Files of one physics process."""

    files: str | list[str]  # globs, paths from the YAML's folder, xrootd URLs, or builtin:NAME
    label: Literal["signal", "background"]
    title: str = ""
    use: Literal["all", "train", "test"] = "all"
    xsec: float | None = Field(default=None, gt=0)  # pb; events are then weighted by xsec / sumw
    sumw: float | None = Field(default=None, gt=0)  # of all generated events; default: of the events read


class Samples(_Section):
    """What is read, and as what."""

    tree: str = "Events"
    schema_: str = Field(default="NanoAODSchema", alias="schema")
    datasets: dict[str, Dataset] = {}
    fileset: str = ""  # instead: a JSON or YAML file in coffea's form, labels in each dataset's metadata

    @model_validator(mode="after")
    def _both_classes(self) -> Samples:
        if bool(self.datasets) == bool(self.fileset):
            raise ValueError("give either datasets or a fileset")
        if self.fileset:
            return self
        for use in ("train", "test"):
            labels = {d.label for d in self.datasets.values() if d.use in ("all", use)}
            for label in ("signal", "background"):
                if label not in labels:
                    raise ValueError(f"no dataset of label '{label}' to {use} with; both classes are needed")
        return self


class SplitSection(_Section):
    """Folds are fold = hash(run, lumi, event) % folds; those not named here train."""

    folds: int = Field(default=10, ge=2, le=255)
    validation: list[int] = Field(default=[0], min_length=1)
    test: list[int] = [5, 6, 7, 8, 9]

    @model_validator(mode="after")
    def _disjoint(self) -> SplitSection:
        outside = [f for f in [*self.validation, *self.test] if not 0 <= f < self.folds]
        if outside:
            raise ValueError(f"folds {outside} do not exist: folds run from 0 to {self.folds - 1}")
        if both := set(self.validation) & set(self.test):
            raise ValueError(f"folds {sorted(both)} stand in validation and in test; one fold has one use")
        if len({*self.validation, *self.test}) >= self.folds:
            raise ValueError("every fold validates or tests, so none is left to train")
        return self


class Nuisance(_Section):
    """A protected variable and the histogram range that judges it."""

    feature: str = ""  # default: the name under which it stands
    low: float
    high: float
    bins: int = Field(default=50, ge=2)
    unit: str | None = None  # default: the feature's
    title: str | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Nuisance:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        return self


class Cut(_Section):
    """Keep events with min <= feature < max, or those for which a function of the events says true."""

    feature: str = ""
    min: float | None = None
    max: float | None = None
    function: str = ""  # my_cuts.py:good

    @model_validator(mode="after")
    def _bounded(self) -> Cut:
        if bool(self.feature) == bool(self.function):
            raise ValueError("a cut names either a feature or a function")
        bounds = self.min is not None or self.max is not None
        if bounds != bool(self.feature):
            raise ValueError("a cut on a feature needs min, max or both; a function takes neither")
        return self

    @property
    def spec(self) -> dict[str, Any] | str:
        """The cut as processors take it."""
        return self.function or {"feature": self.feature, "min": self.min, "max": self.max}


class Running(_Section):
    """How coffea runs the processors."""

    executor: Literal["iterative", "futures", "dask"] = "iterative"
    workers: int = Field(default=2, ge=1)
    scheduler: str | None = None  # address of a running Dask scheduler; default: a cluster on this machine
    chunksize: int = Field(default=100_000, ge=1)
    skip_bad_files: bool = False


class Processors(_Section):
    """Analysis code, by path from the YAML's folder, or module:Class."""

    table: str = "../processors/training_table.py:TrainingTable"
    evaluate: str = "../processors/sculpting.py:Sculpting"


class Training(_Section):
    """Where to train; what is trained stands under `taggers`."""

    device: str = "auto"  # a Fabric accelerator: auto, cpu, cuda, mps
    precision: str = "32-true"
    jobs: int = Field(default=1, ge=1)  # taggers trained at the same time, each in a process of its own
    threads: int = Field(default=1, ge=1)  # of each job


class Config(_Section):
    """One analysis."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.]*$")
    title: str = ""
    output: str = ""  # default: results/NAME below the working directory
    models: str = ""  # default: OUTPUT/models
    samples: Samples
    selection: list[Cut] = []
    weights: list[str] = []
    features: list[str] = Field(min_length=1)
    nuisances: dict[str, Nuisance] = Field(min_length=1)
    split: SplitSection = SplitSection()
    working_points: list[float] = Field(default=[0.5, 0.9, 0.95, 0.99, 0.995], min_length=1)
    seeds: list[int] = Field(default=[1], min_length=1)
    taggers: dict[str, dict[str, Any]] = Field(min_length=1)
    training: Training = Training()
    running: Running = Running()
    processors: Processors = Processors()

    _source: Document = PrivateAttr()
    _overrides: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _sensible(self) -> Config:
        if bad := [p for p in self.working_points if not 0 < p < 1]:
            raise ValueError(f"working_points {bad}: background rejections lie between 0 and 1")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds}: each seed once")
        for name in self.taggers:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.]*", name):
                raise ValueError(f"tagger {name!r}: use letters, digits, '_' and '.', it names a folder")
        return self

    @property
    def base(self) -> Path:
        """The folder from which the paths in the YAML count."""
        return self._source.path.parent

    @property
    def path(self) -> Path:
        """The YAML file."""
        return self._source.path

    @property
    def text(self) -> str:
        """The YAML as it was written."""
        return self._source.text

    @property
    def overrides(self) -> tuple[str, ...]:
        """What was changed from the command line, so that another process can load the same."""
        return self._overrides

    @property
    def output_folder(self) -> Path:
        """Where tables, evaluations and reports go."""
        return (self.base / self.output).resolve() if self.output else Path("results", self.name).resolve()

    @property
    def models_folder(self) -> Path:
        """Where trained taggers go."""
        return (self.base / self.models).resolve() if self.models else self.output_folder / "models"

    @property
    def table_split(self) -> Split:
        """The split, as the table understands it."""
        return Split(self.split.folds, tuple(self.split.validation), tuple(self.split.test))

    def at(self, *place: str | int) -> str:
        """'file.yaml:LINE: key.key' of a value, to begin an error with."""
        return self._source.at(place)

    def digest(self, *sections: str) -> str:
        """Hex digest of the named sections, or of all: equal when nothing in them has changed."""
        content = self.model_dump(mode="json", by_alias=True)
        chosen = {k: content[k] for k in (sections or content)}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


class Document:
    """A YAML file with the line on which each value stands."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.shown = path
        try:
            self.text = path.read_text()
        except OSError as err:
            raise InputError(
                f"{path}: cannot be read ({err.strerror}); give the path of a YAML file"
            ) from None
        except UnicodeDecodeError:
            raise InputError(f"{path}: not a text file; give a YAML file") from None
        self.lines: dict[Place, int] = {}
        try:
            node = yaml.compose(self.text, Loader=yaml.SafeLoader)
            self._note(node, ())
            self.content = yaml.safe_load(self.text)
        except yaml.MarkedYAMLError as err:
            line = err.problem_mark.line + 1 if err.problem_mark else 1
            raise InputError(f"{path}:{line}: not valid YAML: {err.problem}") from None
        except yaml.YAMLError as err:
            raise InputError(f"{path}: not valid YAML: {str(err).splitlines()[0]}") from None
        except RecursionError:
            raise InputError(
                f"{path}: an anchor (&) contains itself, or the YAML is nested too deep"
            ) from None

    def _note(self, node: yaml.Node | None, place: Place) -> None:
        if node is None:
            return
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise InputError(f"{self.shown}:{key.start_mark.line + 1}: a key must be a single word")
                inner = (*place, key.value)
                if inner in self.lines:
                    # PyYAML would keep the last one and say nothing.
                    raise InputError(
                        f"{self.shown}:{key.start_mark.line + 1}: {key.value!r} stands here twice"
                    )
                self.lines[inner] = key.start_mark.line + 1
                self._note(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                self._note(value, (*place, i))

    def at(self, place: Sequence[str | int]) -> str:
        """'file.yaml:LINE: key.key'; of the nearest ancestor where the value itself is absent."""
        path = tuple(place)
        while path and path not in self.lines:
            path = path[:-1]
        name = ".".join(map(str, place))
        return f"{self.shown}:{self.lines.get(path, 1)}" + (f": {name}" if name else "")


def read_yaml(path: Path) -> Any:
    """Content of a YAML file; InputError names the line of a fault or of a key that stands twice."""
    return Document(path).content


def load(path: Path, *, overrides: Sequence[str] = ()) -> Config:
    """The analysis in a YAML file, with `overrides` of the form 'section.key=value' (the value in YAML).

    Raises InputError that names the file, the line and the key at fault.
    """
    document = Document(path)
    if not isinstance(document.content, dict):
        raise InputError(f"{path}:1: an analysis is a mapping of keys to values")
    for override in overrides:
        _override(document.content, override)
    try:
        config = Config.model_validate(document.content)
    except ValidationError as err:
        raise InputError("\n".join(_explain(document, e) for e in err.errors()[:5])) from None
    config._source, config._overrides = document, tuple(overrides)
    return config


def _override(content: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    keys = name.split(".")
    if not equals or not all(keys):
        raise InputError(f"--set {override!r}: write section.key=value")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(f"--set {override!r}: {value!r} is not a YAML value") from None
    target: Any = content
    for key in keys[:-1]:
        target = target.setdefault(key, {}) if isinstance(target, dict) else _item(target, key, override)
    if isinstance(target, dict):
        target[keys[-1]] = parsed
    else:
        _item(target, keys[-1], override)
        target[int(keys[-1])] = parsed


def _item(values: Any, key: str, override: str) -> Any:
    if not isinstance(values, list) or not key.isdigit() or int(key) >= len(values):
        raise InputError(f"--set {override!r}: there is no {key!r} there; write section.key=value")
    return values[int(key)]


def _explain(document: Document, error: Mapping[str, Any]) -> str:
    # pydantic puts the branch of a union into the place; it is no key of the YAML.
    place = tuple(k for k in error["loc"] if k not in ("str", "list[str]"))
    where = document.at(place)
    if error["type"] == "extra_forbidden":
        known = _keys(Config, place[:-1])
        return f"{where}: unknown key{suggest(str(place[-1]), known)}"
    if error["type"] == "missing":
        return f"{where}: missing; add it"
    message = error["msg"].removeprefix("Value error, ")
    given = error["input"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{where}: {message}{shown}"


def _keys(annotation: Any, place: Place) -> list[str]:
    """The keys that the section at `place` knows."""
    for key in place:
        origin = typing.get_origin(annotation)
        if origin in (dict, list):
            annotation = typing.get_args(annotation)[-1]
        elif _is_section(annotation):
            fields = {f.alias or n: f.annotation for n, f in annotation.model_fields.items()}
            annotation = fields.get(str(key))
    return [f.alias or n for n, f in annotation.model_fields.items()] if _is_section(annotation) else []


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
