"""The analysis YAML: what it may hold, checked strictly, with errors that name the line."""

from __future__ import annotations

import hashlib
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hepdecorr.catalogue import suggest
from hepdecorr.document import Document, Place, read_value
from hepdecorr.errors import InputError
from hepdecorr.table import EVENT_IDS, Split


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Cut(_Section):
    """Keep rows with min <= feature < max, with one of some values, or where a function says true."""

    feature: str = ""
    min: float | None = None
    max: float | None = None
    any_of: list[float] | None = Field(default=None, min_length=1)
    function: str = ""  # my_cuts.py:good

    @model_validator(mode="after")
    def _bounded(self) -> Cut:
        if bool(self.feature) == bool(self.function):
            raise ValueError("a cut names either a feature or a function")
        bounds = self.min is not None or self.max is not None
        if self.function and (bounds or self.any_of is not None):
            raise ValueError("a cut by a function takes neither min, max nor any_of")
        if self.feature and bounds == (self.any_of is not None):
            raise ValueError("a cut on a feature needs min, max or both, or any_of")
        return self

    @property
    def spec(self) -> dict[str, Any] | str:
        """The cut as processors take it."""
        return self.function or self.model_dump(exclude_none=True, exclude={"function"})


class Dataset(_Section):
    """Files of one physics process."""

    files: str | list[str]  # globs, paths from the YAML's folder, xrootd URLs, or builtin:NAME
    label: Literal["signal", "background", "outlier"]  # outlier: signal to train against, never to test with
    title: str = ""
    use: Literal["all", "train", "test"] = "all"  # of an outlier: train
    xsec: float | None = Field(default=None, gt=0)  # pb; events are then weighted by xsec / sumw
    sumw: float | None = Field(default=None, gt=0)  # of all generated events; default: of the events read
    selection: list[Cut] = []  # for this dataset alone, beside the selection of all: truth labels

    @field_validator("use")
    @classmethod
    def _outliers_train(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("label") == "outlier" and value != "train":
            raise ValueError("outliers are for training alone: write 'use: train', or leave it out")
        return value

    @model_validator(mode="before")
    @classmethod
    def _use_of_outliers(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("label") == "outlier":
            return {"use": "train", **content}
        return content

    @property
    def spec(self) -> dict[str, Any]:
        """The section as filesets take it."""
        given = self.model_dump(exclude_none=True, exclude={"selection"})
        return given | ({"selection": [cut.spec for cut in self.selection]} if self.selection else {})


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
        # Whether a tagger can be trained on background alone is the tagger's to say: cli/checks.py; whether
        # there may be no signal to test with, the config's: Config.
        for use in ("train", "test"):
            if not self._any("background", use):
                both = "; both classes are needed" if use == "test" else ""
                raise ValueError(f"no dataset of label 'background' to {use} with{both}")
        return self

    def _any(self, label: str, *uses: str) -> bool:
        return any(d.label == label and d.use in ("all", *uses) for d in self.datasets.values())

    @property
    def tests_on_signal(self) -> bool:
        """Whether any dataset of signal is there to test with; a fileset is taken to have one."""
        return bool(self.fileset) or self._any("signal", "test")

    @property
    def has_signal(self) -> bool:
        """Whether any dataset of signal is there; a fileset is taken to have one."""
        return bool(self.fileset) or self._any("signal", "train", "test")

    @property
    def trains_on_signal(self) -> bool | None:
        """Whether any dataset of label 1, signal or outlier, is there to train with; None for a fileset."""
        if self.fileset:
            return None
        return any(d.label != "background" and d.use != "test" for d in self.datasets.values())


class Objects(_Section):
    """What a row is: each object of a collection, with its event.  Without it a row is an event."""

    collection: str
    leading: int | None = Field(default=None, ge=1)  # only so many of each event, the first in pt
    radius: float | None = Field(default=None, gt=0)  # of the jets; default 0.8 for FatJet, 0.4 for Jet
    puppi: Literal["auto", "raw", "weighted"] = "auto"  # momenta of the candidates
    substructure: Literal["auto", "stored", "computed"] = "auto"  # tau_N, softdrop mass: branches or computed

    @property
    def spec(self) -> dict[str, Any]:
        """The section as processors take it."""
        return self.model_dump(exclude_none=True)


class Constituents(_Section):
    """What networks over an object's constituents may see."""

    features: list[str] = Field(min_length=1)
    length: int = Field(default=40, ge=1, le=1000)  # the hardest so many; the others are left out


class Truth(_Section):
    """Which nuisances are the true variables of the group and of the instance, where they are known."""

    group: list[str] = []
    instance: list[str] = []
    process: str = ""  # of both, without noise: exam_scores, or my_process.py:made

    @model_validator(mode="after")
    def _told_apart(self) -> Truth:
        if both := [name for name in self.group if name in self.instance]:
            raise ValueError(f"{both[0]!r} stands in group and in instance; a variable is of one of them")
        if self.process and not (self.group and self.instance):
            raise ValueError("'process' makes events of 'group' and 'instance'; name variables of both")
        return self


class Groups(_Section):
    """What groups events: all of a group share a fold, and taggers that learn from groups get them whole."""

    of: str | list[str]  # branches or features of whole numbers; event: run, lumi, event
    truth: Truth = Truth()

    @field_validator("of")
    @classmethod
    def _named(cls, value: str | list[str]) -> str | list[str]:
        if not value or not all(value):
            raise ValueError("name the branch or feature that says which group an event is of, as run")
        return value

    @property
    def names(self) -> list[str]:
        """The branches or features, with `event` spelt out."""
        given = [self.of] if isinstance(self.of, str) else self.of
        return list(EVENT_IDS) if given == ["event"] else given


class SplitSection(_Section):
    """Folds are fold = hash(run, lumi, event) % folds, or of the group; those not named here train."""

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
    protected: bool = True  # false: stored and shown, to reweight to or to look in bins of it, but not judged
    slices: list[float] | None = Field(default=None, min_length=2)  # edges of bins to look at the others in

    @model_validator(mode="after")
    def _ordered(self) -> Nuisance:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.slices is not None and self.slices != sorted(set(self.slices)):
            raise ValueError(f"slices {self.slices}: their edges must grow")
        return self

    @property
    def spec(self) -> dict[str, Any]:
        """The section as processors take it."""
        return self.model_dump(exclude={"protected", "slices"})


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
    groups: str = "../processors/group_codes.py:FirstPass"  # before it, for taggers that are told of groups


class Training(_Section):
    """Where to train; what is trained stands under `taggers`."""

    device: str = "auto"  # a Fabric accelerator: auto, cpu, cuda, mps
    precision: str = "32-true"
    jobs: int = Field(default=1, ge=1)  # taggers trained at the same time, each in a process of its own
    threads: int = Field(default=1, ge=1)  # of each job


class BetweenGroups(_Section):
    """How taggers are set side by side between groups."""

    reference: str = ""  # that the others are set against; default: the first that is told of no groups
    rejection: float = Field(default=0.95, gt=0, lt=1)  # that figures and words are about, or the nearest
    taggers: list[str] = []  # of figures that have no room for all; default: the reference and some others


class Report(_Section):
    """What the report compares beside the taggers themselves."""

    series: dict[str, dict[str, str]] = {}  # by label, taggers that differ in strength: R50 against 1/JSD
    mapped: list[str] = []  # taggers to show also with a quantile map of their score in the nuisance
    images: bool = True  # average jets before and after the cuts, where there are constituents
    further: Literal["ranked", "measured", "none"] = "ranked"  # scores beside a tagger's own, TAGGER.NAME
    spectra: dict[str, list[str]] = {}  # by title, scores whose background spectra stand side by side
    groups: BetweenGroups = BetweenGroups()
    codes: dict[str, list[str]] = {}  # by title, taggers whose measures of codes stand side by side


class Config(_Section):
    """One analysis."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.]*$")
    title: str = ""
    output: str = ""  # default: results/NAME below the working directory
    models: str = ""  # default: OUTPUT/models
    groups: Groups | None = None
    samples: Samples
    objects: Objects | None = None
    constituents: Constituents | None = None
    selection: list[Cut] = []
    weights: list[str] = []
    features: list[str] = []
    nuisances: dict[str, Nuisance] = Field(min_length=1)
    split: SplitSection = SplitSection()
    working_points: list[float] = Field(default=[0.5, 0.9, 0.95, 0.99, 0.995], min_length=1)
    seeds: list[int] = Field(default=[1], min_length=1)
    taggers: dict[str, dict[str, Any]] = Field(min_length=1)
    scores: (
        dict[str, list[str]] | list[str]
    ) = {}  # to evaluate beside the taggers' own, by tagger, or of each
    shifts: dict[str, dict[str, Any] | str] = {}  # systematic variations, by name
    report: Report = Report()
    training: Training = Training()
    running: Running = Running()
    processors: Processors = Processors()

    _source: Document = PrivateAttr()
    _overrides: tuple[str, ...] = PrivateAttr(default=())

    # One validator a key: the error then names its line.
    @field_validator("samples")
    @classmethod
    def _tested(cls, value: Samples, info: ValidationInfo) -> Samples:
        # A representation of groups can be learnt and judged without any signal.
        alone = info.data.get("groups", ...) is not None and not value.has_signal
        if not value.tests_on_signal and not alone:
            need = "both classes are needed, unless there is a section 'groups'"
            raise ValueError(f"no dataset of label 'signal' to test with; {need}")
        return value

    @field_validator("working_points")
    @classmethod
    def _rejections(cls, values: list[float]) -> list[float]:
        if bad := [p for p in values if not 0 < p < 1]:
            raise ValueError(f"working_points {bad}: background rejections lie between 0 and 1")
        return values

    @field_validator("seeds")
    @classmethod
    def _different(cls, values: list[int]) -> list[int]:
        if len(set(values)) < len(values):
            raise ValueError(f"seeds {values}: each seed once")
        return values

    @field_validator("taggers")
    @classmethod
    def _folders(cls, values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in values:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.]*", name):
                raise ValueError(f"tagger {name!r}: use letters, digits, '_' and '.', it names a folder")
        return values

    @field_validator("scores")
    @classmethod
    def _of_taggers(cls, value: Any, info: ValidationInfo) -> Any:
        taggers = info.data.get("taggers")  # absent where they are at fault themselves
        for name in value if isinstance(value, dict) else ():
            if taggers is not None and name not in taggers:
                raise ValueError(f"no tagger {name!r}{suggest(name, taggers)}")
        return value

    @field_validator("nuisances")
    @classmethod
    def _some_protected(cls, values: dict[str, Nuisance]) -> dict[str, Nuisance]:
        if not any(n.protected for n in values.values()):
            raise ValueError("at least one of the nuisances must be protected")
        return values

    @field_validator("shifts")
    @classmethod
    def _not_nominal(cls, values: dict[str, dict[str, Any] | str]) -> dict[str, dict[str, Any] | str]:
        if "nominal" in values:
            raise ValueError("shift 'nominal': the name stands for the events as they are")
        return values

    @field_validator("constituents")
    @classmethod
    def _of_objects(cls, value: Constituents | None, info: ValidationInfo) -> Constituents | None:
        if value and info.data.get("objects", ...) is None:
            raise ValueError("constituents need 'objects', which says whose they are")
        return value

    @field_validator("report")
    @classmethod
    def _known_taggers(cls, value: Report, info: ValidationInfo) -> Report:
        taggers = info.data.get("taggers")  # absent where they are at fault themselves
        named = [*value.mapped, *value.groups.taggers, *filter(None, [value.groups.reference])]
        rows = [*(row.values() for row in value.series.values()), *value.codes.values()]
        for name in [*named, *(t for row in rows for t in row)]:
            if taggers is not None and name not in taggers:
                raise ValueError(f"no tagger {name!r}{suggest(name, taggers)}")
        for name in (one for row in value.spectra.values() for one in row):
            # TAGGER, or TAGGER.NAME of what its graph gives beside the score.
            if taggers is not None and name not in taggers and name.rpartition(".")[0] not in taggers:
                raise ValueError(f"no tagger {name!r}{suggest(name, taggers)}")
        return value

    @model_validator(mode="after")
    def _sensible(self) -> Config:
        if not self.features and not self.constituents:
            raise ValueError("give features, constituents or both")
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
    def objects_spec(self) -> dict[str, Any] | None:
        """The section `objects`, as processors take it."""
        return self.objects.spec if self.objects else None

    @property
    def grouped_by(self) -> list[str]:
        """What names an event's group, as processors take it; empty where events have none."""
        return self.groups.names if self.groups else []

    @property
    def protected(self) -> dict[str, Nuisance]:
        """The nuisances that are judged."""
        return {name: spec for name, spec in self.nuisances.items() if spec.protected}

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
        parsed = read_value(value)
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
    place = tuple(k for k in error["loc"] if k not in ("str", "list[str]", "dict[str,any]"))
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
        if isinstance(annotation, types.UnionType):  # Section | None
            annotation = next(filter(_is_section, typing.get_args(annotation)), annotation)
    return [f.alias or n for n, f in annotation.model_fields.items()] if _is_section(annotation) else []


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
