"""The parts of the family as YAML names them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import nn

from hepdecorr import catalogue
from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.groups.decoders import Decoder
from hepdecorr.learning.groups.encoders import GroupEncoder
from hepdecorr.learning.groups.instances import InstanceEncoder
from hepdecorr.learning.groups.net import Net
from hepdecorr.learning.groups.posteriors import PRIORS, ClassPrior
from hepdecorr.learning.groups.regularisers import Regulariser

HOME = "hepdecorr.learning.groups"
VARIANCE = 0.1  # of preprocessed features, which have variance 1

M = TypeVar("M", bound=nn.Module)


class Latents(NamedTuple):
    """Dimensions of the codes."""

    group: int
    instance: int

    @classmethod
    def read(cls, spec: Any) -> Latents:
        """From `latents: {group: 2, instance: 1}`."""
        if not isinstance(spec, Mapping) or set(spec) != set(cls._fields):
            raise InputError(f"latents must be as {{group: 2, instance: 1}}, not {spec!r}")
        for key, value in spec.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"latents: {key} must be a whole number of at least 1, not {value!r}")
        return cls(spec["group"], spec["instance"])


class Making(NamedTuple):
    """What the blocks of the family are told beside what they say."""

    features: int
    latents: Latents
    base: Path | None

    def net(
        self,
        encoder: Mapping[str, Any] | str,
        instance: Mapping[str, Any] | None,
        decoder: Mapping[str, Any] | str,
        variance: float | str | None,
        *,
        prior: str = "unit",
    ) -> Net:
        """Of the blocks group_encoder, instance_encoder, decoder and the keys variance, instance_prior."""
        if prior not in PRIORS:
            raise InputError(f"instance_prior: no {prior!r}{suggest(str(prior), PRIORS)}")
        d_u, d_v = self.latents
        about = {"features": self.features}
        of_group = self._build("group_encoder", encoder, GroupEncoder, latents=d_u, **about)  # type: ignore[type-abstract]
        made = self._build("decoder", decoder, Decoder, group=d_u, instance=d_v, **about)  # type: ignore[type-abstract]
        own: dict[str, Any] = {"summands": of_group.summands, "group": d_u, "latents": d_v}
        if not isinstance(instance or {}, Mapping):
            raise InputError(f"instance_encoder must be as {{conditional: true}}, not {instance!r}")
        spec = {"type": f"{HOME}.instances:InstanceEncoder", **(instance or {})}
        of_event = self._build("instance_encoder", spec, InstanceEncoder, **own, **about)
        noise = _variance(variance, made.noise)
        own_prior = ClassPrior(d_v) if prior == "class" else None
        return Net(of_group, of_event, made, features=self.features, variance=noise, prior=own_prior)

    def regulariser(self, spec: Mapping[str, Any] | str | None) -> Regulariser | None:
        """Of the block regulariser; None for 'none'."""
        if spec is None or spec == "none":
            return None
        about = {"features": self.features, "latents": self.latents.instance}
        return self._build("regulariser", spec, Regulariser, **about)  # type: ignore[type-abstract]

    def _build(self, key: str, spec: Any, kind: type[M], **about: Any) -> M:
        named = spec.get("type") if isinstance(spec, Mapping) else spec
        if not isinstance(named, str):
            raise InputError(f"{key} must be as {{type: NAME}}, not {spec!r}")
        if ":" not in named and named not in (known := _named(kind)):
            raise InputError(f"{key}: no {named!r}{suggest(named, known)}")
        try:
            made = catalogue.build(spec, home=HOME, base=self.base, **about)
        except InputError as err:
            raise InputError(f"{key}: {err}") from None
        except (TypeError, ValueError) as err:
            raise InputError(f"{key}: {named}: a value is of the wrong type: {err}") from err
        if not isinstance(made, kind):
            raise InputError(f"{key}: {named} must derive from {HOME}.{kind.__name__}")
        return made


def _named(kind: type[nn.Module]) -> list[str]:
    """Names of this kind that stand for themselves."""
    home = sys.modules[HOME]
    return [name for name in catalogue.public(home) if issubclass(getattr(home, name), kind)]


def _variance(given: float | str | None, noise: float | None) -> float | None:
    """Of p(x | u, v): as the decoder knows it, or as given; None to learn it."""
    if noise is not None:
        if given is not None:
            raise InputError("variance: the decoder has noise of its own; leave variance out")
        return noise**2
    if given == "learned":
        return None
    if given is None:
        return VARIANCE
    try:
        value = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"variance must be a number above 0, or 'learned', not {given!r}")
    return value


def columns(of: Sequence[str] | None, features: Sequence[str]) -> list[int]:
    """Places of the features that are represented; of: their names, None for all."""
    if of is None:
        return list(range(len(features)))
    if isinstance(of, str) or not all(isinstance(name, str) for name in of) or not of:
        raise InputError(f"of must list features, as [{features[0]}], not {of!r}")
    for name in of:
        if name not in features:
            raise InputError(f"of: no feature {name!r}{suggest(name, features)}")
    if len(set(of)) < len(of):
        raise InputError(f"of: a feature stands there twice: {', '.join(of)}")
    return [list(features).index(name) for name in of]
