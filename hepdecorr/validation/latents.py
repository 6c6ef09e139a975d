"""Section of a report on taggers with a representation: what its latents know, what moving one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hepdecorr.validation import captions, page, plots
from hepdecorr.validation.measures import InformationGap, Measured, mig, plain, rank_correlation
from hepdecorr.validation.measures.numbers import Array
from hepdecorr.validation.plots.latents import Moved

ACTIVE = 0.01  # nats of KL, or variance of its mean, above which a latent is in use
REPLICAS = 100  # of each rank correlation; their spread is known to 7 %


@dataclass(frozen=True)
class Latents:
    """Latents of background events of one tagger, one seed, as the training left them beside its card.

    mean: (events, latents); nuisance: (events, nuisances) of those in `nuisances`; weight: (events,).  What a
    method cannot tell is None: keep: (latents,), 0 where a latent was cut out; kl: (latents,) in nats, each
    latent's divergence from its prior; mse: () or (1,), what the reconstruction misses, as the loss has it,
    both means over the background; moved: (nuisances,) the latent that was moved for each nuisance by
    `shifts` deviations; change, change_error, change_raw, observed, observed_error: (nuisances, shifts,
    features), NaN where nothing could be said.
    """

    mean: Array
    nuisance: Array
    weight: Array
    nuisances: tuple[str, ...]
    features: tuple[str, ...] = ()
    keep: Array | None = None
    kl: Array | None = None
    mse: Array | None = None
    moved: Array | None = None
    shifts: Array | None = None
    change: Array | None = None
    change_error: Array | None = None
    change_raw: Array | None = None
    observed: Array | None = None
    observed_error: Array | None = None

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]], *, features: Sequence[str]) -> Self:
        """From the arrays of latents.npz and the features of the card; arrays of other names are left."""
        own = {field.name for field in fields(cls)} - {"nuisances", "features"}
        numbers = {k: np.asarray(v, dtype=np.float64) for k, v in arrays.items() if k in own}
        names = tuple(str(name) for name in arrays["nuisances"])
        return cls(**numbers, nuisances=names, features=tuple(features))

    @property
    def given(self) -> Array | None:
        """The weights; None where they are equal."""
        return None if (self.weight == self.weight[0]).all() else self.weight

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """Which latents were not cut out, (latents,)."""
        return np.ones(self.mean.shape[1], dtype=bool) if self.keep is None else self.keep > 0

    @cached_property
    def gap(self) -> InformationGap | None:
        """The mutual information gap; None for a single latent."""
        return None if self.mean.shape[1] < 2 else mig(self.mean, self.nuisance, weight=self.given)

    @cached_property
    def variances(self) -> Array:
        """Of the means over the events, (latents,): near zero where a latent tells nothing of its event."""
        share = self.weight / self.weight.sum()
        return np.asarray(share @ np.square(self.mean - share @ self.mean))

    @property
    def active(self) -> int:
        """How many latents are in use: of more than ACTIVE nats of KL.

        Where that is not told, whose means vary by more, as Burda et al. (2016), sect. 5.2, count them.
        """
        return int(np.count_nonzero((self.variances if self.kl is None else self.kl) > ACTIVE))

    def correlations(self, number: int) -> list[Measured | None]:
        """Rank correlation of each latent's mean with one of the nuisances; None of a constant one."""
        z, w = self.nuisance[:, number], self.given
        return [
            rank_correlation(one, z, weight=w, replicas=REPLICAS) if np.ptp(one) > 0 else None
            for one in self.mean.T
        ]

    def move(self, number: int) -> Moved | None:
        """What moving the latent of one of the nuisances does; None where no latent could be moved."""
        if self.shifts is None or self.change is None or self.change_error is None:
            return None
        if self.observed is None or self.observed_error is None:
            return None
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
        intervention = None
        if self.moved is not None:
            names = ("nuisances", "features", "moved", "shifts", "change", "change_error", "change_raw")
            intervention = {name: getattr(self, name) for name in (*names, "observed", "observed_error")}
        found = {
            "mig": None if gap is None else gap.to_dict(),
            "cut": plain(np.flatnonzero(~self.kept)),
            "intervention": plain(intervention),
            "variances": plain(self.variances),
            "active": self.active,
            "rank_correlation": {name: plain(self.known[name]) for name in self.nuisances},
        }
        return found | {name: plain(getattr(self, name)) for name in ("kl", "mse")}

    @cached_property
    def known(self) -> dict[str, list[Measured | None]]:
        """By nuisance, the rank correlations."""
        return {name: self.correlations(number) for number, name in enumerate(self.nuisances)}


def section(
    latents: Mapping[str, Sequence[Latents]],
    figures: Any,
    axes: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[str]:
    """Table of the gaps, the matrix of what knows what, each latent against the nuisances, interventions.

    axes: nuisance -> `nuisance`, the title of its axis, and `unit`.
    """
    if not latents:
        return []
    body = [page.heading("Representations", anchor="representations"), page.paragraph(captions.LATENTS)]
    body.append(_gaps(latents))
    first = {name: seeds[0] for name, seeds in latents.items()}
    known = {name: one.gap for name, one in first.items()}
    matrices = {name: gap.information for name, gap in known.items() if gap is not None}
    if matrices:
        shown = {
            name: plots.Information(nats, first[name].nuisances, first[name].kept)
            for name, nats in matrices.items()
        }
        body.append(figures.add(plots.information(shown), "information"))
    for name, one in first.items():
        body += _against(name, one, figures, axes or {})
        body += _interventions(name, one, figures)
    return body


def _against(name: str, one: Latents, figures: Any, axes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Each latent's mean over the plane with a nuisance, and the same in numbers."""
    body = []
    for number, nuisance in enumerate(one.nuisances):
        drawn = plots.latents_against(
            one.mean,
            one.nuisance[:, number],
            weight=one.weight,
            correlations=one.known[nuisance],
            kl=one.kl,
            nats=None if one.gap is None else one.gap.information[:, number],
            **axes.get(nuisance, {"nuisance": nuisance}),
        )
        markup = figures.add(drawn, "latents", f"{name}_{nuisance}", tagger=name, nuisance=nuisance)
        body.append(page.folded_markup(f"{name}: latents against {nuisance}", markup + _each(one)))
    return body


def _interventions(name: str, one: Latents, figures: Any) -> list[str]:
    body = []
    for number, nuisance in enumerate(one.nuisances):
        if (moved := one.move(number)) is None or one.moved is None:
            continue
        drawn = plots.intervention(moved, nuisance=nuisance)
        about = {"tagger": name, "latent": int(one.moved[number]), "nuisance": nuisance}
        body.append(figures.add(drawn, "intervention", f"{name}_{nuisance}", **about))
        table = _table(moved, one.change_raw[number] if one.change_raw is not None else moved.change)
        body.append(page.folded_markup(f"{name}: figures of the intervention", table))
    return body


def metrics(latents: Mapping[str, Sequence[Latents]]) -> dict[str, Any]:
    """What this section adds to metrics.json."""
    return {name: [one.to_dict() for one in seeds] for name, seeds in latents.items()}


def _gaps(latents: Mapping[str, Sequence[Latents]]) -> str:
    rows: list[list[str | page.Cell]] = []
    for name, seeds in latents.items():
        gaps = [one.gap for one in seeds if one.gap is not None]
        cut = "; ".join(", ".join(map(str, np.flatnonzero(~one.kept))) or "none" for one in seeds)
        most = [float(np.max(np.where(one.kept, one.gap.information.max(1), 0))) for one in seeds if one.gap]
        rows.append(
            [
                name,
                str(len(seeds)),
                page.across([gap.mig for gap in gaps]) if gaps else "–",
                page.Cell(cut),
                f"{np.mean(most):.3f}" if most else "–",
                "; ".join(f"{one.active} of {one.mean.shape[1]}" for one in seeds),
                _mean([float(one.kl.sum()) for one in seeds if one.kl is not None]),
                _mean([float(one.mse.mean()) for one in seeds if one.mse is not None]),
            ]
        )
    header = [
        "Tagger",
        "seeds",
        "MIG",
        "<latents cut out, by seed",
        "most that one of the others knows [nats]",
        "in use, by seed",
        "KL of all [nats]",
        "reconstruction error, as the loss has it",
    ]
    return page.table(header, rows)


def _mean(values: Sequence[float]) -> str:
    return page.across([Measured(one, one, one) for one in values]) if values else "–"


def _each(one: Latents) -> str:
    """One row a latent: its KL, how much its mean varies, what it knows of each nuisance."""
    header = ["Latent", "KL [nats]", "variance of its mean"]
    for nuisance in one.nuisances:
        header += [f"rank correlation with {nuisance}", f"information on {nuisance} [nats]"]
    rows: list[list[str | page.Cell]] = []
    for k, variance in enumerate(one.variances):
        row: list[str | page.Cell] = [
            str(k),
            "–" if one.kl is None else f"{one.kl[k]:.3g}",
            f"{variance:.3g}",
        ]
        for number, nuisance in enumerate(one.nuisances):
            found = one.known[nuisance][k]
            row.append("–" if found is None else page.plus_minus(found.value, found.std))
            row.append("–" if one.gap is None else f"{one.gap.information[k, number]:.3f}")
        rows.append(row)
    return page.table(header, rows)


def _table(moved: Moved, raw: Array) -> str:
    """Change of each feature for the largest shift up, and how events differ."""
    k = int(np.argmax(moved.shifts))
    rows: list[list[str | page.Cell]] = []
    for f in np.argsort(-np.abs(moved.change[k])):
        observed = moved.observed[k, f]
        seen = page.plus_minus(observed, moved.observed_error[k, f]) if np.isfinite(observed) else "–"
        rows.append(
            [
                moved.features[f],
                page.plus_minus(moved.change[k, f], moved.change_error[k, f]),
                f"{raw[k, f]:.3g}",
                seen,
            ]
        )
    up = f"{moved.shifts[k]:+g} deviations"
    return page.table(
        ["Feature", f"decoded, {up}", "in its own unit", f"events whose nuisance is {up}"], rows
    )
