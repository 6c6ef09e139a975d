"""A classifier and the terms that decorrelate it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hepdecorr import registry
from hepdecorr.errors import InputError, located
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.losses import ConstraintConfig, Scorer
from hepdecorr.training.losses.adversary import Adversary
from hepdecorr.training.losses.base import Term
from hepdecorr.training.losses.decorrelation import DecorrelationLoss
from hepdecorr.training.methods.base import Method, cross_entropy, training_from_config
from hepdecorr.training.networks.factory import build_network
from hepdecorr.training.networks.preprocessing import scaling_sample
from hepdecorr.training.objective import Objective
from hepdecorr.training.trainer import Trainer
from hepdecorr.training.validation import TaggerValidator

DEFAULTS_PLAIN = {"epochs": 16, "batch_size": 2048, "ema_decay": 0.998}
DEFAULTS_PENALTY = {"epochs": 16, "batch_size": 4096, "ema_decay": 0.998, "grad_clip": 1.0, "tolerance": 0.05}
DEFAULTS_ADVERSARY = DEFAULTS_PENALTY | {"grad_clip": 5.0}
DEFAULTS_CONSTRAINT = {"tolerance": 0.0}  # the criterion is then without dependence and its noise


class Tagger(Method):
    """Cross-entropy plus the sum of its terms: plain with none, DisCo, pivot, or a mixture.

    With adversaries this is the game of Louppe et al. (1611.01046, algorithm 1): each adversary moves
    several times a turn on its own batches, then the tagger once; or both on one backward pass, with
    `update: reversal`.  Everything happens in one stage: a plain start, in which the adversaries are trained
    last, then the strengths grow.  weigh: what one nat of I(score; nuisance) costs, beside the terms, when
    epochs are compared.
    """

    def __init__(
        self,
        *,
        features: Sequence[str],
        constituents: Sequence[str] = (),
        length: int = 0,
        nuisances: Sequence[str] = (),
        terms: Sequence[Mapping[str, Any]] = (),
        network: Mapping[str, Any] | str = "MLP",
        training: Mapping[str, Any] | None = None,
        mi_weight: float = 0.0,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        self.mi_weight = float(mi_weight)
        self.network = build_network(
            network, features=features, constituents=constituents, length=length, base=base
        )
        self.terms = nn.ModuleDict(build_terms(terms, nuisances=nuisances, base=base))
        self.constraint_configs = build_constraint_configs(terms, list(self.terms))
        self.decorrelation_loss = DecorrelationLoss(
            self.terms, self.constraint_configs, scorer=Scorer(self.network, self.logit)
        )
        adversaries = any(isinstance(t, Adversary) for t in self.terms.values())
        defaults = DEFAULTS_ADVERSARY if adversaries else DEFAULTS_PENALTY if terms else DEFAULTS_PLAIN
        defaults = defaults | (DEFAULTS_CONSTRAINT if self.constraint_configs else {})
        self.training_config, self.optimizer_config = training_from_config(
            training, where="method: training", defaults=defaults
        )

    def fit(self, data: DataSplits, trainer: Trainer) -> None:
        """One stage, 'tagger'."""
        self.to(trainer.device)
        sample = data.train.sample(generator=trainer.generator)
        self.network.fit(scaling_sample(self.network, sample).x)  # type: ignore[operator]
        dues = self.decorrelation_loss
        dues.setup(sample, data, trainer, num_batches=data.train.num_batches(self.training_config.batch_size))
        pay = Objective(
            self.network,
            lambda b: self._loss(b, trainer),
            optimizer=self.optimizer_config,
            reversed_modules=dues.reversed_modules,
        )
        trainer.fit_stage(
            dues.build_objectives(pay, trainer),
            data,
            self.training_config,
            name="tagger",
            validate=TaggerValidator(
                self.logit,
                data.validation,
                terms=dict(dues.items()),
                mi_weight=self.mi_weight,
                constraints=dues.constraints,
            ),
            select_after=dues.warmup_end,
            callbacks=dues.callbacks,
        )
        dues.teardown()

    def logit(self, x: Tensor) -> Tensor:
        """Shape (n,)."""
        return self.network(x).squeeze(-1)  # type: ignore[no-any-return]

    def _loss(self, batch: Batch, trainer: Trainer) -> dict[str, Tensor]:
        self.decorrelation_loss.update_multipliers(trainer)
        logit = self.logit(batch.x)
        return {"cross_entropy": cross_entropy(logit, batch)} | self.decorrelation_loss.compute_penalties(
            logit, batch, trainer
        )


def build_terms(
    specs: Sequence[Mapping[str, Any]], *, nuisances: Sequence[str], base: Path | None
) -> dict[str, Term]:
    """The terms by the names that the curves carry: type and nuisance, numbered where they repeat."""
    built: dict[str, Term] = {}
    if isinstance(specs, Mapping | str) or not all(isinstance(spec, Mapping) for spec in specs):
        raise InputError(f"terms must list terms, as [{{type: DisCo, nuisance: NAME}}], not {specs!r}")
    for i, spec in enumerate(specs):
        own = {k: v for k, v in spec.items() if k != "constraint"}
        with located("terms", i):
            term: Term = registry.build(
                own, namespace="hepdecorr.training.losses", base=base, nuisances=list(nuisances)
            )
        name = f"{type(term).__name__.lower()}_{term.nuisance_label}".replace(".", "_")
        count = sum(1 for known in built if known == name or known.startswith(f"{name}_"))
        built[f"{name}_{count + 1}" if count else name] = term
    return built


def build_constraint_configs(
    specs: Sequence[Mapping[str, Any]], term_names: Sequence[str]
) -> dict[str, ConstraintConfig]:
    """The constraints of those terms that have one, by the terms' names."""
    asked = zip(specs, term_names, strict=True)
    for s in specs:
        if "constraint" in s and s.get("strength") == 0:
            raise InputError(
                f"{s['type']}: constraint finds the strength, from the one given on; leave strength: 0 out"
            )
    return {
        name: ConstraintConfig.from_config(s["constraint"], where=f"{s['type']}")
        for s, name in asked
        if "constraint" in s
    }
