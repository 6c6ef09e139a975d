"""Judging an epoch of the family on validation groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Generator

from hepdecorr.learning.batches import Batch
from hepdecorr.learning.groups.loss import bill
from hepdecorr.learning.groups.members import Members
from hepdecorr.learning.groups.posteriors import nats
from hepdecorr.learning.players import Verdict

if TYPE_CHECKING:
    from hepdecorr.learning.groups.representation import GroupRepresentation

ACTIVE = 0.01  # nats of KL, mean over groups or events, above which a latent is in use
SEED = 1  # of the draws: every epoch is judged by the same


class GroupJudge:
    """Minus the ELBO an event, in nats, and the price of the regulariser at full strength."""

    def __init__(self, representation: GroupRepresentation, validation: Batch) -> None:
        self._representation, self._validation = representation, validation
        self._among = Members.of(validation.group)

    def __call__(self, latest: Mapping[str, float]) -> Verdict:  # noqa: ARG002
        """The verdict on the weights as they are now."""
        own, b, among = self._representation, self._validation, self._among
        generator = Generator(device=b.x.device).manual_seed(SEED)
        scaled, target = own.views(b.x)
        inferred = own.net.infer(scaled, among, generator=generator)
        figures = {k: float(v) for k, v in bill(own.net, inferred, target, among, w=b.w, y=b.y).items()}
        criterion = figures["elbo"] = sum(figures.values())
        figures["elbo"] = -criterion
        if own.regulariser is not None:
            found = own.regulariser(scaled, inferred.v, among, generator=generator)
            figures["information"] = float(found)
            criterion += own.regulariser.growth.strength * max(0.0, float(found))
        in_use = nats(inferred.group).mean(0) > ACTIVE, nats(inferred.instance).mean(0) > ACTIVE
        figures["active_group"], figures["active_instance"] = (float(one.sum()) for one in in_use)
        return Verdict(criterion, figures, self._complaint(figures))

    def _complaint(self, figures: Mapping[str, float]) -> str:
        for name in ("group", "instance"):
            if not figures[f"active_{name}"]:
                return (
                    f"no latent of the {name} holds {ACTIVE:g} nats: its code says nothing; lower the "
                    "variance, or look whether the features tell "
                    + ("groups apart" if name == "group" else "events of a group apart")
                )
        return ""
