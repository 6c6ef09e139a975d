"""What a method is: it learns from events, then scores them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch, Data
from hepdecorr.learning.decoder import GroupDecoder
from hepdecorr.learning.generator import Generator
from hepdecorr.learning.grouping import Grouping
from hepdecorr.learning.moves import Moves, read_settings
from hepdecorr.learning.players import Recipe
from hepdecorr.learning.training import Play

Arrays = dict[str, np.ndarray[Any, Any]]


class Method(nn.Module):
    """A method of your own has these verbs; `learn` calls `play` once for each stage.

    One that gives more than a score names it in `beside`: further outputs of the graph.  One that learns
    from background alone says so in `needs_signal`, for its class or for how it was made.

    One that learns from groups (runs, eras) says so in `whole`: its batches then hold whole groups, rows of a
    group side by side and groups numbered from 0 in each batch.  Its tagger is told `context` numbers of each
    event's group: `logit`, `further` and `answers` take rows (n, width + context), with the code behind the
    features, `rows` makes them of a batch, and `grouping` says how codes come from events.
    """

    beside: tuple[str, ...] = ()
    measured: dict[str, Any] = {}  # figures of its training that the card is to keep
    needs_signal: bool = True
    whole: bool = False
    context: int = 0

    @abstractmethod
    def learn(self, data: Data, play: Play) -> None:
        """Train on data.train, judged on data.validation."""

    @abstractmethod
    def logit(self, x: Tensor) -> Tensor:
        """Log odds of signal, shape (n,), for raw rows of shape (n, width) as Form packs them."""

    def rows(self, b: Batch) -> Tensor:
        """What `logit` takes of these events; with a context, of whole groups."""
        return b.x

    def grouping(self) -> Grouping | None:
        """How the code of a group comes from its events; None without a context."""
        return None

    def reveal(self, validation: Batch) -> Arrays:  # noqa: ARG002
        """Arrays by name that a report shows and the graph does not tell; none for most methods."""
        return {}

    def further(self, x: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG002  by default there is nothing
        """What `beside` names, each of shape (n,) or (n, ...)."""
        return ()

    def answers(self, x: Tensor) -> tuple[Tensor, ...]:
        """The logit and what `beside` names: the graph's outputs, for a method that finds them together."""
        return self.logit(x), *self.further(x)

    def weights(self) -> Arrays:
        """Arrays by name from which another training may start, kept beside the graph; none for most."""
        return {}

    def decoder(self) -> GroupDecoder | None:
        """Of a method that learns from groups, from codes to features, which leaves as a graph, too."""
        return None

    def generator(self) -> Generator | None:
        """Its decoder, which leaves as a graph of its own beside the tagger; None for most."""
        return None

    def forward(self, x: Tensor) -> Tensor:
        """Score of shape (n,) in [0, 1] for raw rows of shape (n, width)."""
        return self.logit(x).sigmoid()


def cross_entropy(logit: Tensor, b: Batch) -> Tensor:
    """Weighted binary cross-entropy, scalar; the only thing that the factor r acts on."""
    return F.binary_cross_entropy_with_logits(logit, b.y, weight=b.w * b.r)


def read_training(
    spec: Mapping[str, Any] | None, *, where: str, defaults: Mapping[str, Any]
) -> tuple[Recipe, Moves]:
    """The recipe of a stage and the moves of its tagger, from one `training:` block."""
    of_recipe, of_moves = ({f.name for f in fields(kind)} for kind in (Recipe, Moves))
    given = {**defaults, **(spec or {})}
    for key in given:
        if key not in of_recipe | of_moves:
            raise InputError(f"{where}: there is no {key!r}{suggest(key, of_recipe | of_moves)}")
    recipe = {k: v for k, v in given.items() if k in of_recipe}
    moves = {k: v for k, v in given.items() if k in of_moves}
    return read_settings(Recipe, recipe, where=where), Moves.read(moves, where=where)
