"""Section of a report on taggers with a representation: what its latents know, what moving one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hepdecorr.validation import captions, page, plots
from hepdecorr.validation.measures import InformationGap, mig, plain
from hepdecorr.validation.measures.numbers import Array
from hepdecorr.validation.plots.latents import Moved


@dataclass(frozen=True)
class Latents:
    """Latents of background events of one tagger, one seed, as the training left them beside its card.

    mean: (events, latents); nuisance: (events, nuisances) of those in `nuisances`; weight: (events,); keep:
    (latents,), 0 where a latent was cut out; moved: (nuisances,) the latent that was moved for each nuisance
    by `shifts` deviations; change, change_error, change_raw, observed, observed_error: (nuisances, shifts,
    features), NaN where nothing could be said.
    """

    mean: Array
    nuisance: Array
    weight: Array
    keep: Array
    nuisances: tuple[str, ...]
    features: tuple[str, ...]
    moved: Array
    shifts: Array
    change: Array
    change_error: Array
    change_raw: Array
    observed: Array
    observed_error: Array

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]], *, features: Sequence[str]) -> Self:
        """From the arrays of latents.npz and the features of the card."""
        numbers = {k: np.asarray(v, dtype=np.float64) for k, v in arrays.items() if k != "nuisances"}
        names = tuple(str(name) for name in arrays["nuisances"])
        return cls(**numbers, nuisances=names, features=tuple(features))

    @cached_property
    def gap(self) -> InformationGap | None:
        """The mutual information gap; None for a single latent."""
        if self.mean.shape[1] < 2:
            return None
        equal = (self.weight == self.weight[0]).all()
        return mig(self.mean, self.nuisance, weight=None if equal else self.weight)

    def move(self, number: int) -> Moved:
        """What moving the latent of one of the nuisances does."""
        return Moved(
            self.features,
            self.shifts,
            self.change[number],
            self.change_error[number],
            self.observed[number],
            self.observed_error[number],
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures, JSON-able; the events excluded."""
        gap = self.gap
        found = {name: getattr(self, name) for name in ("nuisances", "features", "moved", "shifts")}
        found |= {name: getattr(self, name) for name in ("change", "change_error", "change_raw")}
        found |= {"observed": self.observed, "observed_error": self.observed_error}
        cut = np.flatnonzero(self.keep == 0)
        return {
            "mig": None if gap is None else gap.to_dict(),
            "cut": plain(cut),
            "intervention": plain(found),
        }


def section(latents: Mapping[str, Sequence[Latents]], figures: Any) -> list[str]:
    """Table of the gaps, the matrix of what knows what, and the interventions of each first seed."""
    if not latents:
        return []
    body = [page.heading("Representations", anchor="representations"), page.paragraph(captions.LATENTS)]
    body.append(_gaps(latents))
    first = {name: seeds[0] for name, seeds in latents.items()}
    known = {name: one.gap for name, one in first.items()}
    matrices = {name: gap.information for name, gap in known.items() if gap is not None}
    if matrices:
        shown = {
            name: plots.Information(nats, first[name].nuisances, first[name].keep > 0)
            for name, nats in matrices.items()
        }
        body.append(figures.add(plots.information(shown), "information"))
    for name, one in first.items():
        for number, nuisance in enumerate(one.nuisances):
            drawn = plots.intervention(one.move(number), nuisance=nuisance)
            about = {"tagger": name, "latent": int(one.moved[number]), "nuisance": nuisance}
            body.append(figures.add(drawn, "intervention", f"{name}_{nuisance}", **about))
            body.append(page.folded_markup(f"{name}: figures of the intervention", _table(one, number)))
    return body


def metrics(latents: Mapping[str, Sequence[Latents]]) -> dict[str, Any]:
    """What this section adds to metrics.json."""
    return {name: [one.to_dict() for one in seeds] for name, seeds in latents.items()}


def _gaps(latents: Mapping[str, Sequence[Latents]]) -> str:
    rows: list[list[str | page.Cell]] = []
    for name, seeds in latents.items():
        gaps = [one.gap for one in seeds if one.gap is not None]
        cut = "; ".join(", ".join(map(str, np.flatnonzero(one.keep == 0))) or "none" for one in seeds)
        most = [
            float(np.max(np.where(one.keep > 0, one.gap.information.max(1), 0))) for one in seeds if one.gap
        ]
        rows.append(
            [
                name,
                str(len(seeds)),
                page.across([gap.mig for gap in gaps]) if gaps else "–",
                page.Cell(cut),
                f"{np.mean(most):.3f}" if most else "–",
            ]
        )
    header = [
        "Tagger",
        "seeds",
        "MIG",
        "<latents cut out, by seed",
        "most that one of the others knows [nats]",
    ]
    return page.table(header, rows)


def _table(one: Latents, number: int) -> str:
    """Change of each feature for the largest shift up, and how events differ."""
    k = int(np.argmax(one.shifts))
    rows: list[list[str | page.Cell]] = []
    for f in np.argsort(-np.abs(one.change[number, k])):
        observed = one.observed[number, k, f]
        seen = page.plus_minus(observed, one.observed_error[number, k, f]) if np.isfinite(observed) else "–"
        rows.append(
            [
                one.features[f],
                page.plus_minus(one.change[number, k, f], one.change_error[number, k, f]),
                f"{one.change_raw[number, k, f]:.3g}",
                seen,
            ]
        )
    up = f"{one.shifts[k]:+g} deviations"
    return page.table(
        ["Feature", f"decoded, {up}", "in its own unit", f"events whose nuisance is {up}"], rows
    )
