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

from hepdecorr.config.yaml_source import KeyPath, YamlDocument, parse_value
from hepdecorr.errors import InputError, suggest
from hepdecorr.table import EVENT_IDS, Split


class _ConfigSection(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class CutConfig(_ConfigSection):
    """Keep rows with min <= feature < max, with one of some values, or where a function says true."""

    feature: str = ""
    min: float | None = None
    max: float | None = None
    any_of: list[float] | None = Field(default=None, min_length=1)
    function: str = ""  # my_cuts.py:good

    @model_validator(mode="after")
    def _check_bounds(self) -> CutConfig:
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


class DatasetConfig(_ConfigSection):
    """Files of one physics process."""

    files: str | list[str]  # globs, paths from the YAML's folder, xrootd URLs, or builtin:NAME
    label: Literal["signal", "background", "outlier"]  # outlier: signal to train against, never to test with
    title: str = ""
    use: Literal["all", "train", "test"] = "all"  # of an outlier: train
    xsec: float | None = Field(default=None, gt=0)  # pb; events are then weighted by xsec / sumw
    sumw: float | None = Field(default=None, gt=0)  # of all generated events; default: of the events read
    selection: list[CutConfig] = []  # for this dataset alone, beside the selection of all: truth labels

    @field_validator("use")
    @classmethod
    def _check_outlier_use(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("label") == "outlier" and value != "train":
            raise ValueError("outliers are for training alone: write 'use: train', or leave it out")
        return value

    @model_validator(mode="before")
    @classmethod
    def _set_outlier_use(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("label") == "outlier":
            return {"use": "train", **content}
        return content

    @property
    def spec(self) -> dict[str, Any]:
        """The section as filesets take it."""
        given = self.model_dump(exclude_none=True, exclude={"selection"})
        return given | ({"selection": [cut.spec for cut in self.selection]} if self.selection else {})


class SamplesConfig(_ConfigSection):
    """What is read, and as what."""

    tree: str = "Events"
    schema_: str = Field(default="NanoAODSchema", alias="schema")
    datasets: dict[str, DatasetConfig] = {}
    fileset: str = ""  # instead: a JSON or YAML file in coffea's form, labels in each dataset's metadata

    @model_validator(mode="after")
    def _check_classes(self) -> SamplesConfig:
        if bool(self.datasets) == bool(self.fileset):
            raise ValueError("give either datasets or a fileset")
        if self.fileset:
            return self
        # Whether a tagger can be trained on background alone is the tagger's to say, in
        # workflow/config_checks.py; whether there may be no signal to test with, the config's.
        for use in ("train", "test"):
            if not self._has_dataset("background", use):
                both = "; both classes are needed" if use == "test" else ""
                raise ValueError(f"no dataset of label 'background' to {use} with{both}")
        return self

    def _has_dataset(self, label: str, *uses: str) -> bool:
        return any(d.label == label and d.use in ("all", *uses) for d in self.datasets.values())

    @property
    def has_test_signal(self) -> bool:
        """Whether any dataset of signal is there to test with; a fileset is taken to have one."""
        return bool(self.fileset) or self._has_dataset("signal", "test")

    @property
    def has_signal(self) -> bool:
        """Whether any dataset of signal is there; a fileset is taken to have one."""
        return bool(self.fileset) or self._has_dataset("signal", "train", "test")

    @property
    def has_train_signal(self) -> bool | None:
        """Whether any dataset of label 1, signal or outlier, is there to train with; None for a fileset."""
        if self.fileset:
            return None
        return any(d.label != "background" and d.use != "test" for d in self.datasets.values())


class ObjectsConfig(_ConfigSection):
    """What a row is: each object of a collection, with its event.  Without it a row is an event."""

    collection: str
    n_leading: int | None = Field(default=None, ge=1)  # only so many of each event, the first in pt
    radius: float | None = Field(default=None, gt=0)  # of the jets; default 0.8 for FatJet, 0.4 for Jet
    puppi: Literal["auto", "raw", "weighted"] = "auto"  # momenta of the candidates
    substructure: Literal["auto", "stored", "computed"] = "auto"  # tau_N, softdrop mass: branches or computed

    @property
    def spec(self) -> dict[str, Any]:
        """The section as processors take it."""
        return self.model_dump(exclude_none=True)


class ConstituentsConfig(_ConfigSection):
    """What networks over an object's constituents may see."""

    features: list[str] = Field(min_length=1)
    length: int = Field(default=40, ge=1, le=1000)  # the hardest so many; the others are left out


class GroupTruthConfig(_ConfigSection):
    """Which nuisances are the true variables of the group and of the instance, where they are known."""

    group: list[str] = []
    instance: list[str] = []
    forward_model: str = ""  # of both, without noise: exam_scores, or my_process.py:made

    @model_validator(mode="after")
    def _check_disjoint(self) -> GroupTruthConfig:
        if both := [name for name in self.group if name in self.instance]:
            raise ValueError(f"{both[0]!r} stands in group and in instance; a variable is of one of them")
        if self.forward_model and not (self.group and self.instance):
            raise ValueError("'forward_model' makes events of 'group' and 'instance'; name variables of both")
        return self


class GroupsConfig(_ConfigSection):
    """What groups events: all of a group share a fold, and taggers that learn from groups get them whole."""

    by: str | list[str]  # branches or features of whole numbers; event: run, lumi, event
    truth: GroupTruthConfig = GroupTruthConfig()

    @field_validator("by")
    @classmethod
    def _check_by(cls, value: str | list[str]) -> str | list[str]:
        if not value or not all(value):
            raise ValueError("name the branch or feature that says which group an event is of, as run")
        return value

    @property
    def key_columns(self) -> list[str]:
        """The branches or features, with `event` spelt out."""
        given = [self.by] if isinstance(self.by, str) else self.by
        return list(EVENT_IDS) if given == ["event"] else given


class SplitConfig(_ConfigSection):
    """Folds are fold = hash(run, lumi, event) % folds, or of the group; those not named here train."""

    folds: int = Field(default=10, ge=2, le=255)
    validation: list[int] = Field(default=[0], min_length=1)
    test: list[int] = [5, 6, 7, 8, 9]

    @model_validator(mode="after")
    def _check_folds(self) -> SplitConfig:
        outside = [f for f in [*self.validation, *self.test] if not 0 <= f < self.folds]
        if outside:
            raise ValueError(f"folds {outside} do not exist: folds run from 0 to {self.folds - 1}")
        if both := set(self.validation) & set(self.test):
            raise ValueError(f"folds {sorted(both)} stand in validation and in test; one fold has one use")
        if len({*self.validation, *self.test}) >= self.folds:
            raise ValueError("every fold validates or tests, so none is left to train")
        return self


class NuisanceConfig(_ConfigSection):
    """A protected variable and the histogram range that judges it."""

    feature: str = ""  # default: the name under which it stands
    low: float
    high: float
    bins: int = Field(default=50, ge=2)
    unit: str | None = None  # default: the feature's
    title: str | None = None
    protected: bool = True  # false: stored and shown, to reweight to or to look in bins of it, but not judged
    bin_edges: list[float] | None = Field(
        default=None, min_length=2
    )  # edges of bins to look at the others in

    @model_validator(mode="after")
    def _check_edges(self) -> NuisanceConfig:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.bin_edges is not None and self.bin_edges != sorted(set(self.bin_edges)):
            raise ValueError(f"bin_edges {self.bin_edges}: they must grow")
        return self

    @property
    def spec(self) -> dict[str, Any]:
        """The section as processors take it."""
        return self.model_dump(exclude={"protected", "bin_edges"})


class ExecutionConfig(_ConfigSection):
    """How coffea runs the processors."""

    executor: Literal["iterative", "futures", "dask"] = "iterative"
    workers: int = Field(default=2, ge=1)
    scheduler: str | None = None  # address of a running Dask scheduler; default: a cluster on this machine
    chunksize: int = Field(default=100_000, ge=1)
    skip_bad_files: bool = False


class ProcessorsConfig(_ConfigSection):
    """Analysis code, by path from the YAML's folder, or module:Class."""

    table: str = "../processors/training_table.py:TrainingTable"
    evaluate: str = "../processors/sculpting.py:Sculpting"
    groups: str = (
        "../processors/group_codes.py:GroupCodesProcessor"  # before it, for taggers that are told of groups
    )


class ResourcesConfig(_ConfigSection):
    """Where to train; what is trained stands under `taggers`."""

    device: str = "auto"  # a Fabric accelerator: auto, cpu, cuda, mps
    precision: str = "32-true"
    jobs: int = Field(default=1, ge=1)  # taggers trained at the same time, each in a process of its own
    threads: int = Field(default=1, ge=1)  # of each job


class GroupReportConfig(_ConfigSection):
    """How taggers are set side by side between groups."""

    reference: str = ""  # that the others are set against; default: the first that is told of no groups
    rejection: float = Field(default=0.95, gt=0, lt=1)  # that figures and words are about, or the nearest
    taggers: list[str] = []  # of figures that have no room for all; default: the reference and some others


class ReportConfig(_ConfigSection):
    """What the report compares beside the taggers themselves."""

    series: dict[str, dict[str, str]] = {}  # by label, taggers that differ in strength: R50 against 1/JSD
    quantile_mapped: list[str] = []  # taggers to show also with a quantile map of their score in the nuisance
    images: bool = True  # average jets before and after the cuts, where there are constituents
    extra_scores: Literal["ranking", "full", "none"] = "ranking"  # scores beside a tagger's own, TAGGER.NAME
    spectra_panels: dict[str, list[str]] = {}  # by title, scores whose background spectra stand side by side
    groups: GroupReportConfig = GroupReportConfig()
    group_codes: dict[str, list[str]] = {}  # by title, taggers whose measures of codes stand side by side


class Config(_ConfigSection):
    """One analysis."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.]*$")
    title: str = ""
    output: str = ""  # default: results/NAME below the working directory
    models: str = ""  # default: OUTPUT/models
    groups: GroupsConfig | None = None
    samples: SamplesConfig
    objects: ObjectsConfig | None = None
    constituents: ConstituentsConfig | None = None
    selection: list[CutConfig] = []
    weights: list[str] = []
    features: list[str] = []
    nuisances: dict[str, NuisanceConfig] = Field(min_length=1)
    split: SplitConfig = SplitConfig()
    working_points: list[float] = Field(default=[0.5, 0.9, 0.95, 0.99, 0.995], min_length=1)
    seeds: list[int] = Field(default=[1], min_length=1)
    taggers: dict[str, dict[str, Any]] = Field(min_length=1)
    extra_scores: (
        dict[str, list[str]] | list[str]
    ) = {}  # to evaluate beside the taggers' own, by tagger, or of each
    systematics: dict[str, dict[str, Any] | str] = {}  # systematic variations, by name
    report: ReportConfig = ReportConfig()
    resources: ResourcesConfig = ResourcesConfig()
    execution: ExecutionConfig = ExecutionConfig()
    processors: ProcessorsConfig = ProcessorsConfig()

    _document: YamlDocument = PrivateAttr()
    _overrides: tuple[str, ...] = PrivateAttr(default=())

    # One validator a key: the error then names its line.
    @field_validator("samples")
    @classmethod
    def _check_test_signal(cls, value: SamplesConfig, info: ValidationInfo) -> SamplesConfig:
        # A representation of groups can be learnt and judged without any signal.
        alone = info.data.get("groups", ...) is not None and not value.has_signal
        if not value.has_test_signal and not alone:
            need = "both classes are needed, unless there is a section 'groups'"
            raise ValueError(f"no dataset of label 'signal' to test with; {need}")
        return value

    @field_validator("working_points")
    @classmethod
    def _check_working_points(cls, values: list[float]) -> list[float]:
        if bad := [p for p in values if not 0 < p < 1]:
            raise ValueError(f"working_points {bad}: background rejections lie between 0 and 1")
        return values

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, values: list[int]) -> list[int]:
        if len(set(values)) < len(values):
            raise ValueError(f"seeds {values}: each seed once")
        return values

    @field_validator("taggers")
    @classmethod
    def _check_tagger_names(cls, values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in values:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.]*", name):
                raise ValueError(f"tagger {name!r}: use letters, digits, '_' and '.', it names a folder")
        return values

    @field_validator("extra_scores")
    @classmethod
    def _check_extra_scores(cls, value: Any, info: ValidationInfo) -> Any:
        taggers = info.data.get("taggers")  # absent where they are at fault themselves
        for name in value if isinstance(value, dict) else ():
            if taggers is not None and name not in taggers:
                raise ValueError(f"no tagger {name!r}{suggest(name, taggers)}")
        return value

    @field_validator("nuisances")
    @classmethod
    def _check_protected(cls, values: dict[str, NuisanceConfig]) -> dict[str, NuisanceConfig]:
        if not any(n.protected for n in values.values()):
            raise ValueError("at least one of the nuisances must be protected")
        return values

    @field_validator("systematics")
    @classmethod
    def _check_systematics(cls, values: dict[str, dict[str, Any] | str]) -> dict[str, dict[str, Any] | str]:
        if "nominal" in values:
            raise ValueError("'nominal': the name stands for the events as they are")
        return values

    @field_validator("constituents")
    @classmethod
    def _check_constituents(
        cls, value: ConstituentsConfig | None, info: ValidationInfo
    ) -> ConstituentsConfig | None:
        if value and info.data.get("objects", ...) is None:
            raise ValueError("constituents need 'objects', which says whose they are")
        return value

    @field_validator("report")
    @classmethod
    def _check_report_taggers(cls, value: ReportConfig, info: ValidationInfo) -> ReportConfig:
        taggers = info.data.get("taggers")  # absent where they are at fault themselves
        named = [*value.quantile_mapped, *value.groups.taggers, *filter(None, [value.groups.reference])]
        rows = [*(row.values() for row in value.series.values()), *value.group_codes.values()]
        for name in [*named, *(t for row in rows for t in row)]:
            if taggers is not None and name not in taggers:
                raise ValueError(f"no tagger {name!r}{suggest(name, taggers)}")
        for name in (one for row in value.spectra_panels.values() for one in row):
            # TAGGER, or TAGGER.NAME of what its graph gives beside the score.
            if taggers is not None and name not in taggers and name.rpartition(".")[0] not in taggers:
                raise ValueError(f"no tagger {name!r}{suggest(name, taggers)}")
        return value

    @model_validator(mode="after")
    def _check_inputs(self) -> Config:
        if not self.features and not self.constituents:
            raise ValueError("give features, constituents or both")
        return self

    @property
    def base(self) -> Path:
        """The folder from which the paths in the YAML count."""
        return self._document.path.parent

    @property
    def path(self) -> Path:
        """The YAML file."""
        return self._document.path

    @property
    def text(self) -> str:
        """The YAML as it was written."""
        return self._document.text

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
    def group_by(self) -> list[str]:
        """What names an event's group, as processors take it; empty where events have none."""
        return self.groups.key_columns if self.groups else []

    @property
    def protected_nuisances(self) -> dict[str, NuisanceConfig]:
        """The nuisances that are judged."""
        return {name: spec for name, spec in self.nuisances.items() if spec.protected}

    @property
    def table_split(self) -> Split:
        """The split, as the table understands it."""
        return Split(self.split.folds, tuple(self.split.validation), tuple(self.split.test))

    def location_of(self, *keys: str | int) -> str:
        """'file.yaml:LINE: key.key' of a value, to begin an error with."""
        return self._document.location_of(keys)

    def digest(self, *sections: str) -> str:
        """Hex digest of the named sections, or of all: equal when nothing in them has changed."""
        content = self.model_dump(mode="json", by_alias=True)
        chosen = {k: content[k] for k in (sections or content)}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def load_config(path: Path, *, overrides: Sequence[str] = ()) -> Config:
    """The analysis in a YAML file, with `overrides` of the form 'section.key=value' (the value in YAML).

    Raises InputError that names the file, the line and the key at fault.
    """
    document = YamlDocument(path)
    if not isinstance(document.content, dict):
        raise InputError(f"{path}:1: an analysis is a mapping of keys to values")
    for override in overrides:
        _apply_override(document.content, override)
    try:
        config = Config.model_validate(document.content)
    except ValidationError as err:
        raise InputError("\n".join(_format_error(document, e) for e in err.errors()[:5])) from None
    config._document, config._overrides = document, tuple(overrides)
    return config


def _apply_override(content: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    keys = name.split(".")
    if not equals or not all(keys):
        raise InputError(f"--set {override!r}: write section.key=value")
    try:
        parsed = parse_value(value)
    except yaml.YAMLError:
        raise InputError(f"--set {override!r}: {value!r} is not a YAML value") from None
    target: Any = content
    for key in keys[:-1]:
        target = (
            target.setdefault(key, {}) if isinstance(target, dict) else _get_list_item(target, key, override)
        )
    if isinstance(target, dict):
        target[keys[-1]] = parsed
    else:
        _get_list_item(target, keys[-1], override)
        target[int(keys[-1])] = parsed


def _get_list_item(values: Any, key: str, override: str) -> Any:
    if not isinstance(values, list) or not key.isdigit() or int(key) >= len(values):
        raise InputError(f"--set {override!r}: there is no {key!r} there; write section.key=value")
    return values[int(key)]


def _format_error(document: YamlDocument, error: Mapping[str, Any]) -> str:
    # pydantic puts the branch of a union into the place; it is no key of the YAML.
    place = tuple(k for k in error["loc"] if k not in ("str", "list[str]", "dict[str,any]"))
    where = document.location_of(place)
    if error["type"] == "extra_forbidden":
        known = _allowed_keys(Config, place[:-1])
        return f"{where}: unknown key{suggest(str(place[-1]), known)}"
    if error["type"] == "missing":
        return f"{where}: missing; add it"
    message = error["msg"].removeprefix("Value error, ")
    given = error["input"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{where}: {message}{shown}"


def _allowed_keys(annotation: Any, key_path: KeyPath) -> list[str]:
    """The keys that the section at `place` knows."""
    for key in key_path:
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
