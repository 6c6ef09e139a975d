"""What a method is: it learns from events, then scores them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.export.decoders import GroupDecoderExport, JetGeneratorExport
from hepdecorr.training.export.group_encoder import GroupEncoderExport
from hepdecorr.training.objective import TrainingConfig
from hepdecorr.training.optim import OptimizerConfig, settings_from_config
from hepdecorr.training.trainer import Trainer

NamedArrays = dict[str, np.ndarray[Any, Any]]


class Method(nn.Module):
    """A method of your own has these verbs; `learn` calls `trainer` once for each stage.

    One that gives more than a score names it in `beside`: further outputs of the graph.  One that learns
    from background alone says so in `needs_signal`, for its class or for how it was made.

    One that learns from groups (runs, eras) says so in `whole`: its batches then hold whole groups, rows of a
    group side by side and groups numbered from 0 in each batch.  Its tagger is told `context` numbers of each
    event's group: `logit`, `further` and `answers` take rows (n, width + context), with the code behind the
    features, `rows` makes them of a batch, and `grouping` says how codes come from events.
    """

    aux_output_names: tuple[str, ...] = ()
    metrics: dict[str, Any] = {}  # figures of its training that the card is to keep
    needs_signal: bool = True
    needs_groups: bool = False
    context_dim: int = 0

    @abstractmethod
    def fit(self, data: DataSplits, trainer: Trainer) -> None:
        """Train on data.train, judged on data.validation."""

    @abstractmethod
    def logit(self, x: Tensor) -> Tensor:
        """Log odds of signal, shape (n,), for raw rows of shape (n, width) as Form packs them."""

    def inputs_with_codes(self, batch: Batch) -> Tensor:
        """What `logit` takes of these events; with a context, of whole groups."""
        return batch.x

    def export_group_encoder(self) -> GroupEncoderExport | None:
        """How the code of a group comes from its events; None without a context."""
        return None

    def diagnostics(self, validation: Batch) -> NamedArrays:  # noqa: ARG002
        """Arrays by name that a report shows and the graph does not tell; none for most methods."""
        return {}

    def aux_outputs(self, x: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG002  by default there is nothing
        """What `beside` names, each of shape (n,) or (n, ...)."""
        return ()

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """The logit and what `beside` names: the graph's outputs, for a method that finds them together."""
        return self.logit(x), *self.aux_outputs(x)

    def state_arrays(self) -> NamedArrays:
        """Arrays by name from which another training may start, kept beside the graph; none for most."""
        return {}

    def export_decoder(self) -> GroupDecoderExport | None:
        """Of a method that learns from groups, from codes to features, which leaves as a graph, too."""
        return None

    def export_generator(self) -> JetGeneratorExport | None:
        """Its decoder, which leaves as a graph of its own beside the tagger; None for most."""
        return None

    def forward(self, x: Tensor) -> Tensor:
        """Score of shape (n,) in [0, 1] for raw rows of shape (n, width)."""
        return self.logit(x).sigmoid()


def cross_entropy(logit: Tensor, batch: Batch) -> Tensor:
    """Weighted binary cross-entropy, scalar; the only thing that the factor r acts on."""
    return F.binary_cross_entropy_with_logits(logit, batch.y, weight=batch.w * batch.loss_weight)


def training_from_config(
    spec: Mapping[str, Any] | None, *, where: str, defaults: Mapping[str, Any]
) -> tuple[TrainingConfig, OptimizerConfig]:
    """The recipe of a stage and the moves of its tagger, from one `training:` block."""
    of_recipe, of_moves = ({f.name for f in fields(kind)} for kind in (TrainingConfig, OptimizerConfig))
    given = {**defaults, **(spec or {})}
    for key in given:
        if key not in of_recipe | of_moves:
            raise InputError(f"{where}: there is no {key!r}{suggest(key, of_recipe | of_moves)}")
    recipe = {k: v for k, v in given.items() if k in of_recipe}
    moves = {k: v for k, v in given.items() if k in of_moves}
    return settings_from_config(TrainingConfig, recipe, where=where), OptimizerConfig.from_config(
        moves, where=where
    )
