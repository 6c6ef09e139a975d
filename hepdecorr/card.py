"""Contract 2: the card that travels inside every tagger and says what it is and how to feed it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError

VERSION: Literal[1] = 1
METADATA_KEY = "hepdecorr.card"  # where the ONNX file carries the card, as JSON
GENERATOR_KEY = "hepdecorr.generator"  # where a generator says what it is


class _Part(BaseModel):
    # A newer hepdecorr may add entries; one that is not understood must not be passed over.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Feature(_Part):
    """One column of an input: the name under which the features room knows it, and its unit."""

    name: str
    unit: str = ""


class Input(_Part):
    """One input of the graph, with its features in the order in which the graph wants them.

    `features` has one row an event or object.  A tagger over constituents also takes `constituents`, with
    the axes rows, constituents, features, and their `mask`, 1 where there is one and 0 in the padding, whose
    content does not matter.  Any number of constituents will do; `length` is how many were kept in training,
    the first ones in `order`.  One whose score is mapped (posthoc) takes `nuisances` last,
    one row each, with the names of the features that the nuisances are made of.
    """

    name: str = "features"
    dtype: Literal["float32"] = "float32"
    axes: tuple[str, ...] = ("events", "features")
    features: tuple[Feature, ...]
    length: int = Field(default=0, ge=0)
    order: str = ""


class Nuisance(_Part):
    """A protected variable; `low` and `high` bound the histograms that judge it."""

    name: str
    unit: str = ""
    low: float
    high: float
    title: str = ""
    feature: str = ""  # that it is computed from; "": its own name


class WorkingPoint(_Part):
    """A cut fixed on background: an event passes when its logit is above the threshold."""

    rejection: float = Field(gt=0, lt=1)
    threshold: float  # on the logit: a float32 sigmoid runs out of digits near 1
    background_efficiency: float
    signal_efficiency: float | None = None  # where there was signal
    background_events: int  # how many background events the threshold was fixed on


class Context(_Part):
    """Of a tagger that is told of each event's group: how the group's code comes from all of its events.

    Beside the tagger lie `members.onnx`, from the input `features` of the tagger to `summands` (events, m),
    and `group.onnx`, from `sums` (groups, m) and `counts` (groups,) to `mean` and `log_var` (groups, d).  The
    mean is the tagger's input `context`, whose features are named code_0, code_1, ...
    """

    of: tuple[str, ...]  # features whose values name the group
    latents: int = Field(ge=1)  # d
    summands: int = Field(ge=1)  # m
    counts: tuple[int, int, int]  # smallest, median and largest number of events in a group of training
    members: str  # sha256 of members.onnx
    group: str  # sha256 of group.onnx


class Card(_Part):
    """All that is known of a trained tagger."""

    version: Literal[1] = VERSION
    name: str
    title: str = ""
    description: str = ""
    method: dict[str, Any]
    seed: int
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...] = ("score", "logit")
    nuisances: tuple[Nuisance, ...]
    objects: dict[str, Any] = Field(default_factory=dict)  # what a row is: the collection, ...; {}: an event
    context: Context | None = None
    conventions: dict[str, str] = Field(default_factory=dict)
    table_fingerprint: str
    config_hash: str
    versions: dict[str, str]
    working_points: tuple[WorkingPoint, ...] = ()
    further_points: dict[str, tuple[WorkingPoint, ...]] = Field(default_factory=dict)  # of further scores
    measured: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    created: str

    @property
    def feature_names(self) -> list[str]:
        """Names of the features that each row has one of, in the order of the input."""
        return [f.name for i in self.inputs if i.name == "features" for f in i.features]

    @property
    def nuisance_names(self) -> list[str]:
        """Names of the features that stand in the input `nuisances`, in its order; none without a map."""
        return [f.name for i in self.inputs if i.name == "nuisances" for f in i.features]

    @property
    def column_names(self) -> list[str]:
        """Names of all that has to be computed once for each row: features, then nuisances."""
        return list(dict.fromkeys([*self.feature_names, *self.nuisance_names]))

    @property
    def constituents(self) -> Input | None:
        """The input over constituents, where there is one."""
        return next((i for i in self.inputs if i.name == "constituents"), None)

    @property
    def constituent_names(self) -> list[str]:
        """Names of the features that each constituent has one of, in the order of the input."""
        return [f.name for f in self.constituents.features] if self.constituents else []

    def working_point(self, rejection: float) -> WorkingPoint:
        """The working point at this background rejection; InputError lists those there are."""
        for point in self.working_points:
            if abs(point.rejection - rejection) < 1e-9:
                return point
        known = ", ".join(f"{p.rejection:g}" for p in self.working_points) or "none"
        raise InputError(f"tagger {self.name}: no working point at rejection {rejection:g}; it has {known}")

    def of_score(self, name: str) -> Card:
        """This card with the working points of a further score; "": those of the tagger's own."""
        if not name:
            return self
        if name not in self.further_points:
            known = suggest(name, self.further_points) if self.further_points else "; it has none"
            raise InputError(f"tagger {self.name}: no working points of a score {name!r}{known}")
        title = f"{self.title or self.name}: {name}"
        return self.model_copy(update={"working_points": self.further_points[name], "title": title})

    def to_json(self) -> str:
        """The card as the ONNX file carries it."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str, *, source: str) -> Card:
        """Read the card of `source`; InputError when it is not one that this version understands."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as err:
            first = err.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the card"
            raise InputError(
                f"{source}: its card does not fit this version of hepdecorr ({where}: {first['msg']}); "
                "export the tagger again, or use the version that made it"
            ) from None

    def write_yaml(self, path: Path) -> None:
        """The same card for people, written atomically."""
        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
        part = path.with_name(path.name + ".part")
        part.write_text(text)
        part.replace(path)


class GeneratorCard(_Part):
    """What travels inside generator.onnx, the decoder beside a tagger that makes jets."""

    version: Literal[1] = VERSION
    tagger: str
    sha256: str  # of the tagger's graph, which it was trained with
    latents: int = Field(ge=1)  # numbers of its input `latent`, unit Gaussians a priori
    condition: tuple[str, ...] = ()  # features of its input `condition`, raw, in this order; (): it has none
    boost: str  # of the frame of its output `momenta`: rest, beam or none
    length: int = Field(ge=1)  # constituents of a jet

    @classmethod
    def from_json(cls, text: str, *, source: str) -> GeneratorCard:
        """Read what `source` says of itself; InputError when it is no generator that is understood here."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as err:
            raise InputError(
                f"{source}: no generator of this version of hepdecorr ({err.errors()[0]['msg']}); train the "
                "tagger again, or use the version that made it"
            ) from None
