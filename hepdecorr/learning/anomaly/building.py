"""The parts of a variational autoencoder of jets as YAML names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning.exposure import Exposure
from hepdecorr.learning.networks.autoencoders import Autoencoder
from hepdecorr.learning.terms.term import Term

NETWORKS = "hepdecorr.learning.networks.autoencoders"
EXPOSURES = "hepdecorr.learning.exposure"
UNLEARNED = {"sumsq": "no network makes it", "density": "it is fitted after the training"}


@dataclass(frozen=True)
class Making:
    """The block `network: {type: ...}`, before it is known how long jets are."""

    spec: Mapping[str, Any] | str
    latents: int
    base: Path | None = None

    def __post_init__(self) -> None:
        spec: Any = self.spec  # from YAML, where both may be anything
        latents: Any = self.latents
        named = spec.get("type") if isinstance(spec, Mapping) else spec
        if not isinstance(named, str):
            raise InputError(f"network must be as {{type: FullyConnected}}, not {self.spec!r}")
        if not isinstance(latents, int) or isinstance(latents, bool) or latents < 1:
            raise InputError(f"latents must be a whole number of at least 1, not {self.latents!r}")

    @property
    def per(self) -> str:
        """How the network wants its jets scaled, see JetFrame."""
        name = self.spec if isinstance(self.spec, str) else self.spec.get("type")
        kind = catalogue.find(str(name), home=NETWORKS, base=self.base)
        return str(getattr(kind, "per", Autoencoder.per))

    def __call__(self, *, length: int, condition: int) -> Autoencoder:
        """The network; InputError where it is none of the kind."""
        about = {"length": length, "latents": self.latents, "condition": condition}
        made = catalogue.build(self.spec, home=NETWORKS, base=self.base, **about)
        if not isinstance(made, Autoencoder):
            raise InputError(f"network {self.spec}: it must derive from {NETWORKS}.Autoencoder")
        return made


def read_exposures(spec: Any, *, base: Path | None) -> dict[str, Exposure]:
    """The exposures of the block `exposure`, one or a list, by the names that the curves carry."""
    specs = [spec] if isinstance(spec, Mapping | str) else spec or []
    if not isinstance(specs, Sequence) or not all(isinstance(one, Mapping | str) for one in specs):
        raise InputError(f"exposure must be as {{type: KLOE, margin: 1}}, or a list of such, not {spec!r}")
    built: dict[str, Exposure] = {}
    for one in specs:
        try:
            made = catalogue.build(one, home=EXPOSURES, base=base)
        except TypeError as err:
            raise InputError(f"exposure: {one}: a value is of the wrong type: {err}") from err
        if not isinstance(made, Exposure):
            raise InputError(f"exposure: {one}: it must derive from {EXPOSURES}.Exposure")
        name = type(made).__name__.lower()
        built[f"{name}_{len(built) + 1}" if name in built else name] = made
    return built


def number(value: Any, *, key: str) -> float:
    """The value of a key of the block; InputError where it is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{key} must be a number, not {value!r}") from None


def check_terms(terms: nn.ModuleDict, *, score: str) -> None:
    """InputError where a term could move nothing, or would look at outliers."""
    for term in terms.values():
        if not isinstance(term, Term):
            continue
        name = type(term).__name__
        if score in UNLEARNED:
            raise InputError(
                f"{name}: score {score} cannot be moved by a term, for {UNLEARNED[score]}; take mse, kl "
                "or nll, or a map of the score (posthoc)"
            )
        if term.given != "background":
            raise InputError(
                f"{name}: given {term.given}, and JetVAE knows no signal: its terms look at background alone"
            )
