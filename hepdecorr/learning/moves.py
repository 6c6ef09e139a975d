"""How a player moves: optimiser, learning rate over time, running average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError

OPTIMIZERS = ("adam", "adamw", "adamax", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "onecycle", "steps")

T = TypeVar("T")


@dataclass(frozen=True)
class Moves:
    """How the weights of one player change.

    `schedule`: constant, cosine (from `lr` down to `final` x `lr`), onecycle (up from nothing over
    the fraction `warmup` of the stage, then cosine), or steps (from `lr` to `final` x `lr` in so many equal
    `drops`, after equal parts of the stage: with 2 of them 1e-3, 1e-4, 1e-5).  `clip`: largest norm of the
    gradient, 0 for none.  `average`: decay of the running average of the weights that is judged and kept in
    place of the last weights, 0 for none.
    """

    lr: float = 2e-3
    schedule: str = "onecycle"
    warmup: float = 0.1
    final: float = 0.01
    drops: int = 2
    optimizer: str = "adamw"
    weight_decay: float = 1e-2
    momentum: float = 0.9  # Adam's beta_1; momentum of sgd and rmsprop
    memory: float = 0.999  # Adam's beta_2
    clip: float = 0.0
    average: float = 0.0

    def __post_init__(self) -> None:
        _among("schedule", self.schedule, SCHEDULES)
        _among("optimizer", self.optimizer, OPTIMIZERS)
        _within("lr", self.lr, low=0, high=math.inf)
        _within("drops", self.drops, low=1, high=math.inf)
        _within("average", self.average, low=0, high=1)
        _within("warmup", self.warmup, low=0, high=1)
        _within("momentum", self.momentum, low=0, high=1)
        _within("memory", self.memory, low=0, high=1)

    @classmethod
    def read(cls, spec: Mapping[str, Any] | None, *, where: str, **defaults: Any) -> Self:
        """From a block of YAML; `defaults` are those of the asking method."""
        return read_settings(cls, spec, where=where, **defaults)

    def rate(self, progress: float) -> float:
        """Learning rate when this fraction of the stage has passed."""
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "steps":
            fallen = min(self.drops, math.floor(progress * (self.drops + 1) + 1e-9)) / self.drops
            return self.lr * float(self.final**fallen)
        warmup = self.warmup if self.schedule == "onecycle" else 0.0
        if progress < warmup:
            return self.lr * max(progress / warmup, self.final)
        fallen = min(1.0, (progress - warmup) / max(1e-9, 1 - warmup))
        return self.lr * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * fallen)))

    def optimise(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser over these parameters, in its fastest form."""
        held = list(parameters)
        common: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay}
        if self.optimizer in ("adam", "adamw"):
            kind = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adam
            return kind(held, betas=(self.momentum, self.memory), fused=True, **common)
        if self.optimizer == "adamax":
            return torch.optim.Adamax(held, betas=(self.momentum, self.memory), foreach=True, **common)
        if self.optimizer == "rmsprop":
            return torch.optim.RMSprop(held, momentum=self.momentum, foreach=True, **common)
        return torch.optim.SGD(held, momentum=self.momentum, foreach=True, **common)


class Average:
    """Exponentially weighted running average of parameters.

    The decay grows from 1/10 as (1 + t)/(10 + t), so that the random first weights are soon forgotten.
    """

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        self._parameters, self._decay = parameters, decay
        self.weights = [p.detach().clone() for p in parameters]
        self.moves = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the present weights."""
        self.moves += 1
        decay = min(self._decay, (1 + self.moves) / (10 + self.moves))
        torch._foreach_lerp_(self.weights, list(self._parameters), 1 - decay)

    @torch.no_grad()
    def exchange(self) -> None:
        """Put the average into the module and the module's weights here; twice is nothing."""
        present: list[Tensor] = [p.detach().clone() for p in self._parameters]
        torch._foreach_copy_(list(self._parameters), self.weights)
        torch._foreach_copy_(self.weights, present)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"weights": self.weights, "moves": self.moves}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Back to what a checkpoint kept."""
        torch._foreach_copy_(
            self.weights, [w.to(m.device) for w, m in zip(state["weights"], self.weights, strict=True)]
        )
        self.moves = state["moves"]


def read_settings(kind: type[T], spec: Mapping[str, Any] | None, *, where: str, **defaults: Any) -> T:
    """`kind(**spec)` with unknown keys and wrong types told as InputError."""
    types = {f.name: type(f.default) for f in fields(kind)}  # type: ignore[arg-type]
    values = {**defaults, **(spec or {})}
    for key, value in values.items():
        if key not in types:
            raise InputError(f"{where}: there is no {key!r}{suggest(key, types)}")
        wanted = types[key]
        if wanted is float and isinstance(value, int | str) and not isinstance(value, bool):
            values[key] = _number(value, key=key, where=where)  # YAML 1.1 reads 1e-3 as a string
        elif not isinstance(value, wanted) or (wanted is not bool and isinstance(value, bool)):
            raise InputError(f"{where}: {key} must be of type {wanted.__name__}, not {value!r}")
    try:
        return kind(**values)
    except InputError as err:
        raise InputError(f"{where}: {err}") from None


def _number(value: int | str, *, key: str, where: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"{where}: {key} must be a number, not {value!r}") from None


def _among(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"no {name} {value!r}{suggest(value, known)}")


def _within(name: str, value: float, *, low: float, high: float) -> None:
    if not low <= value < high:
        raise InputError(f"{name} must lie in [{low:g}, {high:g}), not {value:g}")
