"""The family as a module: posteriors of groups and events from raw features, and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch, Data
from hepdecorr.learning.decoder import GroupDecoder
from hepdecorr.learning.grouping import Grouping, Posterior, added, counted
from hepdecorr.learning.groups.building import Latents, Making, columns
from hepdecorr.learning.groups.judging import GroupJudge
from hepdecorr.learning.groups.loss import bill
from hepdecorr.learning.groups.members import Members
from hepdecorr.learning.groups.net import Inferred
from hepdecorr.learning.latents.traversal import unscaled
from hepdecorr.learning.methods.judging import chunks
from hepdecorr.learning.methods.method import read_training
from hepdecorr.learning.networks.inputs import read_inputs
from hepdecorr.learning.players import Player
from hepdecorr.learning.training import Play

DEFAULTS = {"epochs": 8, "batch": 2048, "lr": 1e-2, "weight_decay": 0.0, "clip": 1.0}
STRAIGHT = ("standard", "robust", "none")  # scales that are straight lines


class GroupRepresentation(nn.Module):
    """A variational autoencoder with codes of groups and of events (reference 3).

    of: features that it represents, default all.  latents: {group: d_u, instance: d_v}.  group_encoder,
    decoder, regulariser: of the room `groups`; instance_encoder: see InstanceEncoder.  variance: of the
    Gaussian p(x | u, v) on preprocessed features, default 0.1, or 'learned', one for each feature; not with
    a decoder that knows its noise.  instance_prior: 'unit' as in the reference, or
    'class', see ClassPrior.  inputs: how features are preprocessed.  training: of its stage, 'groups'.
    """

    places: Tensor
    sizes: Tensor  # a buffer, since all that a process learns travels with the weights

    def __init__(
        self,
        *,
        features: Sequence[str],
        latents: Mapping[str, int] | None = None,
        of: Sequence[str] | None = None,
        group_encoder: Mapping[str, Any] | str = "DeepSets",
        instance_encoder: Mapping[str, Any] | None = None,
        decoder: Mapping[str, Any] | str = "Network",
        regulariser: Mapping[str, Any] | str | None = None,
        variance: float | str | None = None,
        instance_prior: str = "unit",
        inputs: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        where: str = "method: training",
        base: Path | None = None,
    ) -> None:
        super().__init__()
        self.latents = Latents.read({"group": 2, "instance": 1} if latents is None else latents)
        places = columns(of, features)
        self.names = [features[k] for k in places]
        self.register_buffer("places", torch.tensor(places))
        self.every = places == list(range(len(features)))
        make = Making(len(places), self.latents, base)
        self.net = make.net(group_encoder, instance_encoder, decoder, variance, prior=instance_prior)
        # A decoder of raw features has to meet those that lie far outside, too.
        self.inputs = read_inputs(self.names, {"clip": 0.0} if inputs is None and self.raw else inputs)
        self.regulariser = make.regulariser(regulariser)
        # A critic that has not yet learned finds nothing, and early epochs would seem the best.
        defaults = DEFAULTS | ({"keep": "last"} if self.regulariser is not None else {})
        self.recipe, self.moves = read_training(training, where=where, defaults=defaults)
        self.register_buffer("sizes", torch.zeros(3, dtype=torch.int64))
        self._latest: tuple[Batch, Inferred] | None = None

    @property
    def counts(self) -> tuple[int, int, int]:
        """Smallest, median and largest number of events in the groups of training."""
        smallest, median, largest = self.sizes.tolist()
        return smallest, median, largest

    @property
    def raw(self) -> bool:
        """Whether the decoder gives features in their own units."""
        return self.net.decoder.raw

    def chosen(self, x: Tensor) -> Tensor:
        """The raw features that are represented, (n, f), of rows of all of them."""
        return x[:, : len(self.names)] if self.every else x.index_select(1, self.places)

    def views(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoders see of raw rows, and what the decoder has to give, both (n, f)."""
        own = self.chosen(x)
        scaled = self.inputs(own)
        return scaled, own if self.raw else scaled

    def learn(self, data: Data, play: Play) -> dict[str, Any]:
        """One stage, 'groups'; returns its entry of the history."""
        sample, whole = data.train.sample(generator=play.generator), data.train.whole
        if whole is None or data.validation.whole is None:
            raise InputError("groups are learned from events in whole groups: Events(..., whole=True)")
        if len(whole) < 2:
            raise InputError(
                "groups: all events to train on are of one group, and nothing differs between groups; look "
                "at 'groups: of' in the config"
            )
        self.inputs.fit(self.chosen(sample.x))
        self.net.encoder.fit(whole.counts)
        counts = whole.counts.sort()[0]
        self.sizes.copy_(counts[[0, len(counts) // 2, -1]])
        players, critic = self._players(play), self.regulariser
        judge = GroupJudge(self, data.validation.all)
        settled = critic.growth.settled if critic is not None else 0.0
        record = play(players, data, self.recipe, stage="groups", judge=judge, settled=settled)
        self._latest = None
        return record

    def _players(self, play: Play) -> dict[str, Player]:
        critic = self.regulariser
        left = (critic,) if critic is not None and critic.reversal else ()
        vae = Player(self.net, lambda b: self._pay(b, play.passed), moves=self.moves, leaves=left)
        if critic is None:
            return {"vae": vae}
        loss = self._left if critic.reversal else self._chase
        chasing = Player(critic, loss, steps=critic.steps_at, moves=critic.moves, batch=critic.batch)
        return {"vae": vae, "critic": chasing} if critic.reversal else {"critic": chasing, "vae": vae}

    def _infer(self, b: Batch) -> tuple[Inferred, Members, Tensor, Tensor]:
        among = Members.of(b.group)
        scaled, target = self.views(b.x)
        if self._latest is not None and self._latest[0] is b:
            return self._latest[1], among, scaled, target
        return self.net.infer(scaled, among), among, scaled, target

    def _chase(self, b: Batch) -> dict[str, Tensor]:
        assert self.regulariser is not None
        shared = not self.regulariser.batch
        with torch.set_grad_enabled(shared):
            inferred, among, scaled, _ = self._infer(b)
        if shared:
            self._latest = (b, inferred)  # the encoders will not have moved when they pay on this batch
        return {"chase": -self.regulariser(scaled, inferred.v.detach(), among)}

    def _pay(self, b: Batch, passed: float) -> dict[str, Tensor]:
        inferred, among, scaled, target = self._infer(b)
        self._latest = None
        cost = bill(self.net, inferred, target, among, w=b.w, y=b.y)
        if self.regulariser is None:
            return cost
        critic, strength = self.regulariser, self.regulariser.growth.at(passed)
        if critic.reversal and critic.steps_at(passed):
            return cost | {"regulariser": critic.reverse(scaled, inferred.v, among, strength=strength)}
        if not strength:
            return cost | {"regulariser": inferred.v.new_zeros(())}
        return cost | {"regulariser": strength * critic(scaled, inferred.v, among)}

    def _left(self, b: Batch) -> dict[str, Tensor]:  # noqa: ARG002  the gradient is there
        assert self.regulariser is not None
        return {"chase": self.regulariser.latest}

    def codes(self, x: Tensor, group: Tensor) -> Posterior:
        """Posteriors (g, d_u) of whole groups, of raw rows (n, width) with group indices (n,)."""
        groups = int(group.max()) + 1
        sums, start = x.new_zeros(groups, self.net.encoder.summands), 0
        for part in chunks(x):
            own = group[start : start + len(part)]
            sums += added(self.members(part), own, groups=groups)
            start += len(part)
        return self.net.encoder.pool(sums, counted(group, groups=groups))

    @torch.no_grad()
    def with_codes(self, b: Batch) -> Tensor:
        """Raw rows of whole groups with the mean of each one's code behind, (n, width + d_u)."""
        return torch.cat([b.x, self.codes(b.x, b.group).mean.index_select(0, b.group)], 1)

    def members(self, x: Tensor) -> Tensor:
        """Summands (n, m) of raw rows."""
        return self.net.encoder.members(self.inputs(self.chosen(x)))

    def instances(self, x: Tensor, code: Tensor) -> Posterior:
        """Posteriors (n, d_v) of raw rows whose groups have codes (n, d_u)."""
        scaled = self.inputs(self.chosen(x))
        summands = self.net.encoder.members(scaled) if self.net.instance.by_summands else scaled
        return self.net.instance(scaled, summands, code)  # type: ignore[no-any-return]

    def decode(self, u: Tensor, v: Tensor) -> Tensor:
        """Features (n, f) in their own units of codes (n, d_u) and (n, d_v)."""
        given: Tensor = self.net.decoder(u, v)
        return given if self.raw else unscaled(self.inputs, given)

    def measured(self, validation: Batch) -> dict[str, Any]:
        """What a card keeps: sizes, the variance, and the ELBO on validation groups."""
        straight = self.raw or (self.inputs.scale in STRAIGHT and not self.inputs.any_log)
        slope = torch.ones(len(self.names)) if self.raw else self.inputs.slope.detach().cpu()
        variance = self.net.variance.detach().cpu()
        with torch.no_grad():
            figures = dict(GroupJudge(self, validation)({}).figures)
        # Of raw features, so that taggers that scale theirs otherwise can be compared.
        elbo = figures["elbo"] + (float(slope.log().sum()) if straight else 0.0)
        return {
            "represents": list(self.names),
            "latents": self.latents._asdict(),
            "group_sizes": dict(zip(("smallest", "median", "largest"), self.counts, strict=True)),
            "variance": (variance / slope.square()).tolist() if straight else None,
            "instance_prior": "class" if self.net.prior is not None else "unit",
            "variance_preprocessed": None if self.raw else variance.tolist(),
            "deviation": (1 / self.inputs.slope.detach().cpu()).tolist() if straight else None,
            "elbo": elbo,
            "elbo_of": "features" if straight else "preprocessed features",
            "kl_group": figures["kl_group"],
            "kl_instance": figures["kl_instance"],
        }


class GroupCoding(Grouping):
    """How the code of a group comes from its events, to be exported."""

    def __init__(self, representation: GroupRepresentation) -> None:
        super().__init__()
        self.representation = representation
        self.latents = representation.latents.group
        self.summands = representation.net.encoder.summands
        self.counts = representation.counts

    def members(self, x: Tensor) -> Tensor:
        """Summands (n, m) of raw rows (n, f)."""
        return self.representation.members(x)

    def pool(self, sums: Tensor, counts: Tensor) -> Posterior:
        """Codes (g, d) from sums (g, m) and counts (g,)."""
        return self.representation.net.encoder.pool(sums, counts)


class Decoded(GroupDecoder):
    """The decoder, with features in their own units, to be exported."""

    def __init__(self, representation: GroupRepresentation) -> None:
        super().__init__()
        self.representation = representation
        self.group, self.instance = representation.latents

    def forward(self, *inputs: Tensor) -> Tensor:
        """Shape (n, f)."""
        return self.representation.decode(*inputs)
