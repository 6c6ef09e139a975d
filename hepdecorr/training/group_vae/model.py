"""The network of the family: group encoder, instance encoder, decoder, and the deviation of p(x | u, v).

The evidence lower bound of groups, taken apart.

The parts of the family as YAML names them.

The family as a module: posteriors of groups and events from raw features, and how it is trained.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Generator, Tensor, nn

from hepdecorr import registry
from hepdecorr.errors import InputError, located, suggest
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.data.chunks import score_chunks
from hepdecorr.training.data.groups import BatchGroups
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.export.decoders import GroupDecoderExport
from hepdecorr.training.export.group_encoder import (
    GroupEncoderExport,
    GroupPosterior,
    count_by_group,
    sum_by_group,
)
from hepdecorr.training.group_vae.decoders import Decoder
from hepdecorr.training.group_vae.encoders import GroupEncoder, InstanceEncoder
from hepdecorr.training.group_vae.gaussian import INSTANCE_PRIORS, ClassPrior, kl_to_standard_normal, rsample
from hepdecorr.training.group_vae.regularisers import Regulariser
from hepdecorr.training.methods.base import training_from_config
from hepdecorr.training.networks.preprocessing import build_preprocessor
from hepdecorr.training.objective import Objective, ValidationResult
from hepdecorr.training.trainer import Trainer
from hepdecorr.training.vae.traversal import invert_preprocessing
from hepdecorr.training.validation import GROUP_VAE_MIN_ACTIVE_KL

MIN_VARIANCE = 1e-4  # of a learned variance: with as many latents as features it would go to nothing
INITIAL_VARIANCE = 0.1  # of a learned variance


class Posteriors(NamedTuple):
    """What is known of n events in g groups, with a draw of each."""

    group: GroupPosterior  # (g, d_u)
    u: Tensor  # (g, d_u)
    instance: GroupPosterior  # (n, d_v), given u
    v: Tensor  # (n, d_v)


class GroupVAENet(nn.Module):
    """q(u | x) and q(v_k | x_k, u), and p(x_k | u, v_k), a Gaussian of a variance for each feature.

    variance: of preprocessed features, or of raw ones where the decoder gives those; None to learn it.
    prior: of v where there is one for each class; None for the unit Gaussian.
    """

    log_variance: Tensor

    def __init__(
        self,
        group_encoder: GroupEncoder,
        instance_encoder: InstanceEncoder,
        decoder: Decoder,
        *,
        num_features: int,
        variance: float | None,
        instance_prior: ClassPrior | None = None,
    ) -> None:
        super().__init__()
        self.group_encoder, self.instance_encoder, self.decoder, self.instance_prior = (
            group_encoder,
            instance_encoder,
            decoder,
            instance_prior,
        )
        self.learns_variance = variance is None
        if variance is None:
            self.log_variance = nn.Parameter(torch.full((num_features,), math.log(INITIAL_VARIANCE)))
        else:
            self.register_buffer("log_variance", torch.full((num_features,), math.log(variance)))

    @property
    def variance(self) -> Tensor:
        """Of p(x | u, v), (f,)."""
        return self.log_variance.exp() + (MIN_VARIANCE if self.learns_variance else 0.0)

    def infer(
        self, scaled: Tensor, batch_groups: BatchGroups, *, generator: Generator | None = None
    ) -> Posteriors:
        """Both posteriors of preprocessed features (n, f)."""
        summands = self.group_encoder.summands(scaled)
        group = self.group_encoder.pool(batch_groups.sum_by_group(summands), batch_groups.counts)
        u = rsample(group, generator=generator)
        instance = self.instance_encoder(scaled, summands, u.index_select(0, batch_groups.group))
        return Posteriors(group, u, instance, rsample(instance, generator=generator))

    def distance(self, target: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """(x - mean of p)^2 / 2 variance of events (n, f) with codes (n, d_u) and (n, d_v), summed, (n,)."""
        missed: Tensor = self.decoder(u, v) - target
        return (missed.square() / (2 * self.variance)).sum(1)

    def instance_kl(self, posterior: GroupPosterior, y: Tensor) -> Tensor:
        """KL of each dimension of q(v | x, u) from p(v), (n, d), of events with labels (n,)."""
        return (
            kl_to_standard_normal(posterior)
            if self.instance_prior is None
            else self.instance_prior.kl(posterior, y)
        )

    @property
    def log_normaliser(self) -> Tensor:
        """What -log p(x | u, v) is more than the distance, in nats."""
        return 0.5 * (2 * math.pi * self.variance).log().sum()


def negative_elbo(
    net: GroupVAENet,
    posteriors: Posteriors,
    target: Tensor,
    batch_groups: BatchGroups,
    *,
    w: Tensor,
    y: Tensor,
) -> dict[str, Tensor]:
    """Minus the ELBO of whole groups, an event, in nats; its parts, each a scalar.

    sum over groups of [KL(q(u|x) || p(u)) + sum over its events of (KL(q(v|x,u) || p(v)) - log p(x|u,v))]
    (reference 3, section 2.1), over the number of events.  Events count by their weights (n,), negative ones
    as nothing; the KL of a group counts once, whatever its events weigh.  Labels y (n,) choose p(v) where
    there is one for each class.
    """
    w = w.clamp_min(0)
    total = w.sum()
    share = (total > 0) / torch.where(total > 0, total, 1.0)
    distance = net.distance(target, posteriors.u.index_select(0, batch_groups.group), posteriors.v)
    return {
        "reconstruction": share * (w * (distance + net.log_normaliser)).sum(),
        "kl_group": share * kl_to_standard_normal(posteriors.group).sum(),
        "kl_instance": share * (w * net.instance_kl(posteriors.instance, y).sum(1)).sum(),
    }


GROUP_VAE_MODULE = "hepdecorr.training.group_vae"
DEFAULT_VARIANCE = 0.1  # of preprocessed features, which have variance 1

M = TypeVar("M", bound=nn.Module)


class LatentDims(NamedTuple):
    """Dimensions of the codes."""

    group: int
    instance: int

    @classmethod
    def from_config(cls, spec: Any) -> LatentDims:
        """From `latents: {group: 2, instance: 1}`."""
        if not isinstance(spec, Mapping) or set(spec) != set(cls._fields):
            raise InputError(f"latents must be as {{group: 2, instance: 1}}, not {spec!r}")
        for key, value in spec.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"latents: {key} must be a whole number of at least 1, not {value!r}")
        return cls(spec["group"], spec["instance"])


class GroupVAEFactory(NamedTuple):
    """What the blocks of the family are told beside what they say."""

    num_features: int
    latent_dims: LatentDims
    base: Path | None

    def build_net(
        self,
        group_encoder: Mapping[str, Any] | str,
        instance_encoder: Mapping[str, Any] | None,
        decoder: Mapping[str, Any] | str,
        variance: float | str | None,
        *,
        instance_prior: str = "unit",
    ) -> GroupVAENet:
        """Of the blocks group_encoder, instance_encoder, decoder and the keys variance, instance_prior."""
        if instance_prior not in INSTANCE_PRIORS:
            raise InputError(
                f"instance_prior: no {instance_prior!r}{suggest(str(instance_prior), INSTANCE_PRIORS)}"
            )
        d_u, d_v = self.latent_dims
        about = {"num_features": self.num_features}
        of_group = self._build_part("group_encoder", group_encoder, GroupEncoder, latent_dim=d_u, **about)  # type: ignore[type-abstract]
        made = self._build_part("decoder", decoder, Decoder, group_dim=d_u, instance_dim=d_v, **about)  # type: ignore[type-abstract]
        own: dict[str, Any] = {"num_summands": of_group.num_summands, "group_dim": d_u, "latent_dim": d_v}
        if not isinstance(instance_encoder or {}, Mapping):
            raise InputError(f"instance_encoder must be as {{conditional: true}}, not {instance_encoder!r}")
        spec = {"type": f"{GROUP_VAE_MODULE}.encoders:InstanceEncoder", **(instance_encoder or {})}
        of_event = self._build_part("instance_encoder", spec, InstanceEncoder, **own, **about)
        noise = _parse_variance(variance, made.noise_std)
        own_prior = ClassPrior(d_v) if instance_prior == "class" else None
        return GroupVAENet(
            of_group, of_event, made, num_features=self.num_features, variance=noise, instance_prior=own_prior
        )

    def build_regulariser(self, spec: Mapping[str, Any] | str | None) -> Regulariser | None:
        """Of the block regulariser; None for 'none'."""
        if spec is None or spec == "none":
            return None
        about = {"num_features": self.num_features, "latent_dim": self.latent_dims.instance}
        return self._build_part("regulariser", spec, Regulariser, **about)  # type: ignore[type-abstract]

    def _build_part(self, key: str, spec: Any, part_type: type[M], **context: Any) -> M:
        named = spec.get("type") if isinstance(spec, Mapping) else spec
        if not isinstance(named, str):
            raise InputError(f"{key} must be as {{type: NAME}}, not {spec!r}")
        if ":" not in named and named not in (known := _public_names(part_type)):
            raise InputError(f"{key}: no {named!r}{suggest(named, known)}")
        try:
            with located(key):
                made = registry.build(spec, namespace=GROUP_VAE_MODULE, base=self.base, **context)
        except InputError:
            raise
        except (TypeError, ValueError) as err:
            raise InputError(f"{key}: {named}: a value is of the wrong type: {err}") from err
        if not isinstance(made, part_type):
            raise InputError(f"{key}: {named} must derive from {GROUP_VAE_MODULE}.{part_type.__name__}")
        return made


def _public_names(part_type: type[nn.Module]) -> list[str]:
    """Names of this kind that stand for themselves."""
    home = sys.modules[GROUP_VAE_MODULE]
    return [name for name in registry.public_names(home) if issubclass(getattr(home, name), part_type)]


def _parse_variance(variance: float | str | None, noise_std: float | None) -> float | None:
    """Of p(x | u, v): as the decoder knows it, or as given; None to learn it."""
    if noise_std is not None:
        if variance is not None:
            raise InputError("variance: the decoder has noise of its own; leave variance out")
        return noise_std**2
    if variance == "learned":
        return None
    if variance is None:
        return DEFAULT_VARIANCE
    try:
        value = math.nan if isinstance(variance, bool) else float(variance)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"variance must be a number above 0, or 'learned', not {variance!r}")
    return value


def feature_indices(names: Sequence[str] | None, features: Sequence[str]) -> list[int]:
    """Places of the features that are represented; of: their names, None for all."""
    if names is None:
        return list(range(len(features)))
    if isinstance(names, str) or not all(isinstance(name, str) for name in names) or not names:
        raise InputError(f"encoded_features must list features, as [{features[0]}], not {names!r}")
    for name in names:
        if name not in features:
            raise InputError(f"encoded_features: no feature {name!r}{suggest(name, features)}")
    if len(set(names)) < len(names):
        raise InputError(f"encoded_features: a feature stands there twice: {', '.join(names)}")
    return [list(features).index(name) for name in names]


DEFAULT_TRAINING = {"epochs": 8, "batch_size": 2048, "lr": 1e-2, "weight_decay": 0.0, "grad_clip": 1.0}
AFFINE_SCALES = ("standard", "robust", "none")  # scales that are straight lines


class GroupVAEModel(nn.Module):
    """A variational autoencoder with codes of groups and of events (reference 3).

    of: features that it represents, default all.  latents: {group: d_u, instance: d_v}.  group_encoder,
    decoder, regulariser: of the room `groups`; instance_encoder: see InstanceEncoder.  variance: of the
    Gaussian p(x | u, v) on preprocessed features, default 0.1, or 'learned', one for each feature; not with
    a decoder that knows its noise.  instance_prior: 'unit' as in the reference, or
    'class', see ClassPrior.  inputs: how features are preprocessed.  training: of its stage, 'groups'.
    """

    encoded_indices: Tensor
    group_size_stats: Tensor  # a buffer, since all that a process learns travels with the weights

    def __init__(
        self,
        *,
        features: Sequence[str],
        latents: Mapping[str, int] | None = None,
        encoded_features: Sequence[str] | None = None,
        group_encoder: Mapping[str, Any] | str = "DeepSetsEncoder",
        instance_encoder: Mapping[str, Any] | None = None,
        decoder: Mapping[str, Any] | str = "MLPDecoder",
        regulariser: Mapping[str, Any] | str | None = None,
        variance: float | str | None = None,
        instance_prior: str = "unit",
        inputs: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        where: str = "method: training",
        base: Path | None = None,
    ) -> None:
        super().__init__()
        self.latent_dims = LatentDims.from_config({"group": 2, "instance": 1} if latents is None else latents)
        places = feature_indices(encoded_features, features)
        self.encoded_features = [features[k] for k in places]
        self.register_buffer("encoded_indices", torch.tensor(places))
        self.encodes_all_features = places == list(range(len(features)))
        make = GroupVAEFactory(len(places), self.latent_dims, base)
        self.net = make.build_net(
            group_encoder, instance_encoder, decoder, variance, instance_prior=instance_prior
        )
        # A decoder of raw features has to meet those that lie far outside, too.
        self.inputs = build_preprocessor(
            self.encoded_features, {"clip": 0.0} if inputs is None and self.outputs_raw else inputs
        )
        self.regulariser = make.build_regulariser(regulariser)
        # A critic that has not yet learned finds nothing, and early epochs would seem the best.
        defaults = DEFAULT_TRAINING | ({"select": "last"} if self.regulariser is not None else {})
        self.training_config, self.optimizer_config = training_from_config(
            training, where=where, defaults=defaults
        )
        self.register_buffer("group_size_stats", torch.zeros(3, dtype=torch.int64))
        self._cached_posteriors: tuple[Batch, Posteriors] | None = None

    @property
    def group_sizes(self) -> tuple[int, int, int]:
        """Smallest, median and largest number of events in the groups of training."""
        smallest, median, largest = self.group_size_stats.tolist()
        return smallest, median, largest

    @property
    def outputs_raw(self) -> bool:
        """Whether the decoder gives features in their own units."""
        return self.net.decoder.outputs_raw

    def select_features(self, x: Tensor) -> Tensor:
        """The raw features that are represented, (n, f), of rows of all of them."""
        return (
            x[:, : len(self.encoded_features)]
            if self.encodes_all_features
            else x.index_select(1, self.encoded_indices)
        )

    def inputs_and_targets(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoders see of raw rows, and what the decoder has to give, both (n, f)."""
        own = self.select_features(x)
        scaled = self.inputs(own)
        return scaled, own if self.outputs_raw else scaled

    def fit(self, data: DataSplits, trainer: Trainer) -> dict[str, Any]:
        """One stage, 'groups'; returns its entry of the history."""
        sample, whole = data.train.sample(generator=trainer.generator), data.train.group_index
        if whole is None or data.validation.group_index is None:
            raise InputError(
                "groups are learned from events in whole groups: EventDataset(..., grouped=True)"
            )
        if len(whole) < 2:
            raise InputError(
                "groups: all events to train on are of one group, and nothing differs between groups; look "
                "at 'groups: of' in the config"
            )
        self.inputs.fit(self.select_features(sample.x))
        self.net.group_encoder.fit(whole.counts)
        counts = whole.counts.sort()[0]
        self.group_size_stats.copy_(counts[[0, len(counts) // 2, -1]])
        players, critic = self._build_objectives(trainer), self.regulariser
        judge = GroupVAEValidator(self, data.validation.all)
        settled = critic.schedule.end if critic is not None else 0.0
        record = trainer.fit_stage(
            players, data, self.training_config, name="groups", validate=judge, select_after=settled
        )
        self._cached_posteriors = None
        return record

    def _build_objectives(self, trainer: Trainer) -> dict[str, Objective]:
        critic = self.regulariser
        left = (critic,) if critic is not None and critic.uses_gradient_reversal else ()
        vae = Objective(
            self.net,
            lambda b: self._loss(b, trainer.progress),
            optimizer=self.optimizer_config,
            reversed_modules=left,
        )
        if critic is None:
            return {"vae": vae}
        loss = self._reversed_critic_loss if critic.uses_gradient_reversal else self._critic_loss
        chasing = Objective(
            critic,
            loss,
            steps_per_iteration=critic.num_steps,
            optimizer=critic.optimizer_config,
            batch_size=critic.batch_size,
        )
        return (
            {"vae": vae, "critic": chasing}
            if critic.uses_gradient_reversal
            else {"critic": chasing, "vae": vae}
        )

    def _infer_batch(self, batch: Batch) -> tuple[Posteriors, BatchGroups, Tensor, Tensor]:
        among = BatchGroups.from_index(batch.group)
        scaled, target = self.inputs_and_targets(batch.x)
        if self._cached_posteriors is not None and self._cached_posteriors[0] is batch:
            return self._cached_posteriors[1], among, scaled, target
        return self.net.infer(scaled, among), among, scaled, target

    def _critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        assert self.regulariser is not None
        shared = not self.regulariser.batch_size
        with torch.set_grad_enabled(shared):
            inferred, among, scaled, _ = self._infer_batch(batch)
        if shared:
            self._cached_posteriors = (
                batch,
                inferred,
            )  # the encoders will not have moved when they pay on this batch
        return {"loss": -self.regulariser(scaled, inferred.v.detach(), among)}

    def _loss(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        inferred, among, scaled, target = self._infer_batch(batch)
        self._cached_posteriors = None
        cost = negative_elbo(self.net, inferred, target, among, w=batch.w, y=batch.y)
        if self.regulariser is None:
            return cost
        critic, strength = self.regulariser, self.regulariser.schedule.value(progress)
        if critic.uses_gradient_reversal and critic.num_steps(progress):
            return cost | {
                "regulariser": critic.reversed_penalty(scaled, inferred.v, among, strength=strength)
            }
        if not strength:
            return cost | {"regulariser": inferred.v.new_zeros(())}
        return cost | {"regulariser": strength * critic(scaled, inferred.v, among)}

    def _reversed_critic_loss(self, batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002  the gradient is there
        assert self.regulariser is not None
        return {"loss": self.regulariser.last_loss}

    def group_posteriors(self, x: Tensor, group: Tensor) -> GroupPosterior:
        """Posteriors (g, d_u) of whole groups, of raw rows (n, width) with group indices (n,)."""
        groups = int(group.max()) + 1
        sums, start = x.new_zeros(groups, self.net.group_encoder.num_summands), 0
        for part in score_chunks(x):
            own = group[start : start + len(part)]
            sums += sum_by_group(self.summands(part), own, num_groups=groups)
            start += len(part)
        return self.net.group_encoder.pool(sums, count_by_group(group, num_groups=groups))

    @torch.no_grad()
    def append_group_codes(self, batch: Batch) -> Tensor:
        """Raw rows of whole groups with the mean of each one's code behind, (n, width + d_u)."""
        return torch.cat(
            [batch.x, self.group_posteriors(batch.x, batch.group).mean.index_select(0, batch.group)], 1
        )

    def summands(self, x: Tensor) -> Tensor:
        """Summands (n, m) of raw rows."""
        return self.net.group_encoder.summands(self.inputs(self.select_features(x)))

    def instance_posteriors(self, x: Tensor, code: Tensor) -> GroupPosterior:
        """Posteriors (n, d_v) of raw rows whose groups have codes (n, d_u)."""
        scaled = self.inputs(self.select_features(x))
        summands = (
            self.net.group_encoder.summands(scaled) if self.net.instance_encoder.uses_summands else scaled
        )
        return self.net.instance_encoder(scaled, summands, code)  # type: ignore[no-any-return]

    def decode(self, u: Tensor, v: Tensor) -> Tensor:
        """Features (n, f) in their own units of codes (n, d_u) and (n, d_v)."""
        given: Tensor = self.net.decoder(u, v)
        return given if self.outputs_raw else invert_preprocessing(self.inputs, given)

    def card_metrics(self, batch: Batch) -> dict[str, Any]:
        """What a card keeps: sizes, the variance, and the ELBO on validation groups."""
        straight = self.outputs_raw or (self.inputs.scale in AFFINE_SCALES and not self.inputs.has_log)
        slope = (
            torch.ones(len(self.encoded_features)) if self.outputs_raw else self.inputs.slope.detach().cpu()
        )
        variance = self.net.variance.detach().cpu()
        with torch.no_grad():
            figures = dict(GroupVAEValidator(self, batch)({}).metrics)
        # Of raw features, so that taggers that scale theirs otherwise can be compared.
        elbo = figures["elbo"] + (float(slope.log().sum()) if straight else 0.0)
        return {
            "encoded_features": list(self.encoded_features),
            "latents": self.latent_dims._asdict(),
            "group_sizes": dict(zip(("smallest", "median", "largest"), self.group_sizes, strict=True)),
            "variance": (variance / slope.square()).tolist() if straight else None,
            "instance_prior": "class" if self.net.instance_prior is not None else "unit",
            "variance_preprocessed": None if self.outputs_raw else variance.tolist(),
            "feature_std": (1 / self.inputs.slope.detach().cpu()).tolist() if straight else None,
            "elbo": elbo,
            "elbo_units": "features" if straight else "preprocessed features",
            "kl_group": figures["kl_group"],
            "kl_instance": figures["kl_instance"],
        }


class GroupVAEEncoderExport(GroupEncoderExport):
    """How the code of a group comes from its events, to be exported."""

    def __init__(self, model: GroupVAEModel) -> None:
        super().__init__()
        self.model = model
        self.code_dim = model.latent_dims.group
        self.num_summands = model.net.group_encoder.num_summands
        self.group_sizes = model.group_sizes

    def summands(self, x: Tensor) -> Tensor:
        """Summands (n, m) of raw rows (n, f)."""
        return self.model.summands(x)

    def pool(self, sums: Tensor, counts: Tensor) -> GroupPosterior:
        """Codes (g, d) from sums (g, m) and counts (g,)."""
        return self.model.net.group_encoder.pool(sums, counts)


class GroupVAEDecoderExport(GroupDecoderExport):
    """The decoder, with features in their own units, to be exported."""

    def __init__(self, model: GroupVAEModel) -> None:
        super().__init__()
        self.model = model
        self.group_dim, self.instance_dim = model.latent_dims

    def forward(self, *inputs: Tensor) -> Tensor:
        """Shape (n, f)."""
        return self.model.decode(*inputs)


SEED = 1  # of the draws: the same in every epoch


class GroupVAEValidator:
    """Minus the ELBO an event, in nats, and the price of the regulariser at full strength."""

    def __init__(self, model: GroupVAEModel, batch: Batch) -> None:
        self._model, self._batch = model, batch
        self._batch_groups = BatchGroups.from_index(batch.group)

    def __call__(self, last_metrics: Mapping[str, float]) -> ValidationResult:  # noqa: ARG002
        """The verdict on the weights as they are now."""
        own, b, among = self._model, self._batch, self._batch_groups
        generator = Generator(device=b.x.device).manual_seed(SEED)
        scaled, target = own.inputs_and_targets(b.x)
        inferred = own.net.infer(scaled, among, generator=generator)
        figures = {
            k: float(v) for k, v in negative_elbo(own.net, inferred, target, among, w=b.w, y=b.y).items()
        }
        criterion = figures["elbo"] = sum(figures.values())
        figures["elbo"] = -criterion
        if own.regulariser is not None:
            found = own.regulariser(scaled, inferred.v, among, generator=generator)
            figures["information"] = float(found)
            criterion += own.regulariser.schedule.strength * max(0.0, float(found))
        in_use = (
            kl_to_standard_normal(inferred.group).mean(0) > GROUP_VAE_MIN_ACTIVE_KL,
            kl_to_standard_normal(inferred.instance).mean(0) > GROUP_VAE_MIN_ACTIVE_KL,
        )
        figures["active_group"], figures["active_instance"] = (float(one.sum()) for one in in_use)
        return ValidationResult(criterion, figures, self._inactive_warning(figures))

    def _inactive_warning(self, metrics: Mapping[str, float]) -> str:
        for name in ("group", "instance"):
            if not metrics[f"active_{name}"]:
                return (
                    f"no latent of the {name} holds {GROUP_VAE_MIN_ACTIVE_KL:g} nats: its code says "
                    "nothing; lower the "
                    "variance, or look whether the features tell "
                    + ("groups apart" if name == "group" else "events of a group apart")
                )
        return ""
