"""A classifier that knows each event's group, through what the event is apart from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch, Data, Events
from hepdecorr.learning.decoder import GroupDecoder
from hepdecorr.learning.grouping import Grouping, Posterior
from hepdecorr.learning.groups.representation import Decoded, GroupCoding, GroupRepresentation
from hepdecorr.learning.methods.group_vae import check_columns
from hepdecorr.learning.methods.method import Method
from hepdecorr.learning.methods.tagger import Tagger
from hepdecorr.learning.seen import beside, seen_whole
from hepdecorr.learning.training import Play


class Contextual(Method):
    """Two stages: codes of groups and events, then a classifier on the codes of events.

    When to use it: where something unknown changes from group to group (run, era) and shifts the features of
    all its events; the classifier sees what is left when that is taken out, and does not drift with it.

    representation: arguments of GroupRepresentation; `of` names the features that the unknown acts on, the
    others go to the classifier as they are.  So that nothing is lost on the way, give the instance as many
    latents as `of` has features and the decoder a small variance.  network, terms, training, weigh: of the
    classifier, a Tagger on the means of the instance codes, given the mean of the group's code, and the
    features that are left.  told: the classifier is told the group's code itself, too.

    Terms may also name the group's code as nuisances, group_0, group_1, ...: with
    {type: DisCo, nuisance: [group_0, group_1], given: signal} signal is not to depend on its group.
    """

    whole = True
    beside = ("instance", "instance_log_var")
    left: Tensor

    def __init__(
        self,
        *,
        features: Sequence[str],
        constituents: Sequence[str] = (),
        nuisances: Sequence[str] = (),
        representation: Mapping[str, Any] | None = None,
        network: Mapping[str, Any] | str = "MLP",
        terms: Sequence[Mapping[str, Any]] = (),
        training: Mapping[str, Any] | None = None,
        weigh: float = 0.0,
        told: bool = False,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        check_columns("Contextual", features, constituents)
        self.width = len(features)
        self.representation = _represent(representation, features=features, base=base)
        self.context = self.representation.latents.group
        codes = [f"instance_{k}" for k in range(self.representation.latents.instance)]
        left = [name for name in features if name not in self.representation.names]
        self.register_buffer("left", torch.tensor([features.index(name) for name in left], dtype=torch.int64))
        if not isinstance(told, bool):
            raise InputError(f"told is true or false, not {told!r}")
        self.told = told
        groups = [f"group_{k}" for k in range(self.context)]
        self.names = [*codes, *left, *(groups if told else [])]
        self.freed = groups if _named(terms) & set(groups) else []
        self.classifier = Tagger(
            features=self.names,
            nuisances=[*nuisances, *self.freed],
            terms=terms,
            network=network,
            training=training,
            weigh=weigh,
            base=base,
        )

    @property
    def network(self) -> nn.Module:
        """The classifier's."""
        return self.classifier.network

    def learn(self, data: Data, play: Play) -> None:
        """Stages 'groups' and 'tagger'."""
        self.to(play.device)
        record = self.representation.learn(data, play)
        self.representation.eval().requires_grad_(False)
        self.measured = record["measured"] = self.representation.measured(data.validation.all)
        if self.freed:
            data = beside(data, lambda b: self.rows(b)[:, self.width :], names=self.freed)
        told = seen_whole(data, lambda b: self.kept(self.rows(b)), names=self.names)
        if isinstance(told.train, Events):
            # Batches of a few groups would differ in their signal, and in what is left of the groups.
            told = told._replace(train=told.train.loose())
        self.classifier.learn(told, play)

    def rows(self, b: Batch) -> Tensor:
        """Features and the code of the group, (n, width + d_u), of whole groups."""
        return self.representation.with_codes(b)

    def logit(self, x: Tensor) -> Tensor:
        """Shape (n,)."""
        return self.classifier.logit(self.kept(x))

    def further(self, x: Tensor) -> tuple[Tensor, ...]:
        """Means and logarithms of the variances of the instance codes, both (n, d_v)."""
        p = self._instances(x)
        return p.mean, p.log_var

    def answers(self, x: Tensor) -> tuple[Tensor, ...]:
        """The logit and what `beside` names."""
        p = self._instances(x)
        return self.classifier.logit(self._beside(p, x)), p.mean, p.log_var

    def kept(self, x: Tensor) -> Tensor:
        """What the classifier sees of rows with the code behind, (n, d_v + features left + code)."""
        return self._beside(self._instances(x), x)

    def grouping(self) -> Grouping:
        """How codes come from events."""
        return GroupCoding(self.representation)

    def decoder(self) -> GroupDecoder:
        """From codes to the features that are represented."""
        return Decoded(self.representation)

    def _instances(self, x: Tensor) -> Posterior:
        return self.representation.instances(x[:, : self.width], x[:, self.width :])

    def _beside(self, p: Posterior, x: Tensor) -> Tensor:
        parts = [p.mean]
        if len(self.left):
            parts.append(x.index_select(1, self.left))
        if self.told:
            parts.append(x[:, self.width :])
        return torch.cat(parts, 1)


def _named(terms: Sequence[Any]) -> set[str]:
    """The nuisances that terms name; what is no list of terms is the classifier's to tell."""
    named = [spec.get("nuisance", ()) for spec in terms if isinstance(spec, Mapping)]
    return {one for names in named for one in ([names] if isinstance(names, str) else names)}


def _represent(
    spec: Mapping[str, Any] | None, *, features: Sequence[str], base: Path | None
) -> GroupRepresentation:
    if not isinstance(spec or {}, Mapping):
        raise InputError(f"representation must be as {{latents: {{group: 2, instance: 4}}}}, not {spec!r}")
    for key in ("type", "features", "where", "base"):
        if key in (spec or {}):
            raise InputError(f"representation: there is no {key!r}; features to represent stand in 'of'")
    home = GroupRepresentation.__module__
    about = {"features": list(features), "where": "training"}
    try:
        made: GroupRepresentation = catalogue.build(
            {"type": f"{home}:GroupRepresentation", **(spec or {})}, home=home, base=base, **about
        )
    except InputError as err:
        raise InputError(f"representation: {err}") from None
    return made
