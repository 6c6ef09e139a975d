"""Section of a report on taggers with a representation: what its latents know, what moving one does.

Part of a scan's page on representations: their reconstruction, KL and correlation with a nuisance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hepdecorr.evaluation import plots
from hepdecorr.evaluation.metrics import (
    Estimate,
    InformationGap,
    aggregate_seeds,
    mig,
    rank_correlation,
    to_jsonable,
)
from hepdecorr.evaluation.plots.latents import LatentScanPoint, Traversal
from hepdecorr.evaluation.report import page, texts
from hepdecorr.stats.results import Array

ACTIVE_THRESHOLD = 0.01  # nats of KL, or variance of its mean, above which a latent is in use
NUM_REPLICAS = 100  # of each rank correlation; their spread is known to 7 %


@dataclass(frozen=True)
class LatentSample:
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
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], *, features: Sequence[str]) -> Self:
        """From the arrays of latents.npz and the features of the card; arrays of other names are left."""
        own = {field.name for field in fields(cls)} - {"nuisances", "features"}
        numbers = {k: np.asarray(v, dtype=np.float64) for k, v in arrays.items() if k in own}
        names = tuple(str(name) for name in arrays["nuisances"])
        return cls(**numbers, nuisances=names, features=tuple(features))

    @property
    def weight_or_none(self) -> Array | None:
        """The weights; None where they are equal."""
        return None if (self.weight == self.weight[0]).all() else self.weight

    @property
    def keep_mask(self) -> npt.NDArray[np.bool_]:
        """Which latents were not cut out, (latents,)."""
        return np.ones(self.mean.shape[1], dtype=bool) if self.keep is None else self.keep > 0

    @cached_property
    def information_gap(self) -> InformationGap | None:
        """The mutual information gap; None for a single latent."""
        return None if self.mean.shape[1] < 2 else mig(self.mean, self.nuisance, weight=self.weight_or_none)

    @cached_property
    def mean_variances(self) -> Array:
        """Of the means over the events, (latents,): near zero where a latent tells nothing of its event."""
        share = self.weight / self.weight.sum()
        return np.asarray(share @ np.square(self.mean - share @ self.mean))

    @property
    def num_active(self) -> int:
        """How many latents are in use: of more than ACTIVE nats of KL.

        Where that is not told, whose means vary by more, as Burda et al. (2016), sect. 5.2, count them.
        """
        return int(np.count_nonzero((self.mean_variances if self.kl is None else self.kl) > ACTIVE_THRESHOLD))

    def correlate_with(self, nuisance_index: int) -> list[Estimate | None]:
        """Rank correlation of each latent's mean with one of the nuisances; None of a constant one."""
        z, w = self.nuisance[:, nuisance_index], self.weight_or_none
        return [
            rank_correlation(one, z, weight=w, replicas=NUM_REPLICAS) if np.ptp(one) > 0 else None
            for one in self.mean.T
        ]

    def make_traversal(self, nuisance_index: int) -> Traversal | None:
        """What moving the latent of one of the nuisances does; None where no latent could be moved."""
        if self.shifts is None or self.change is None or self.change_error is None:
            return None
        if self.observed is None or self.observed_error is None:
            return None
        return Traversal(
            self.features,
            self.shifts,
            self.change[nuisance_index],
            self.change_error[nuisance_index],
            self.observed[nuisance_index],
            self.observed_error[nuisance_index],
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures, JSON-able; the events excluded."""
        gap = self.information_gap
        intervention = None
        if self.moved is not None:
            names = ("nuisances", "features", "moved", "shifts", "change", "change_error", "change_raw")
            intervention = {name: getattr(self, name) for name in (*names, "observed", "observed_error")}
        found = {
            "mig": None if gap is None else gap.to_dict(),
            "cut": to_jsonable(np.flatnonzero(~self.keep_mask)),
            "intervention": to_jsonable(intervention),
            "variances": to_jsonable(self.mean_variances),
            "active": self.num_active,
            "rank_correlation": {name: to_jsonable(self.rank_correlations[name]) for name in self.nuisances},
        }
        return found | {name: to_jsonable(getattr(self, name)) for name in ("kl", "mse")}

    @cached_property
    def rank_correlations(self) -> dict[str, list[Estimate | None]]:
        """By nuisance, the rank correlations."""
        return {name: self.correlate_with(number) for number, name in enumerate(self.nuisances)}


def latents_section(
    latents: Mapping[str, Sequence[LatentSample]],
    figures: Any,
    axes: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[str]:
    """Table of the gaps, the matrix of what knows what, each latent against the nuisances, interventions.

    axes: nuisance -> `nuisance`, the title of its axis, and `unit`.
    """
    if not latents:
        return []
    body = [page.heading("Representations", anchor="representations"), page.paragraph(texts.LATENTS_TEXT)]
    body.append(_gap_table(latents))
    first = {name: seeds[0] for name, seeds in latents.items()}
    known = {name: one.information_gap for name, one in first.items()}
    matrices = {name: gap.information for name, gap in known.items() if gap is not None}
    if matrices:
        shown = {
            name: plots.LatentInformation(nats, first[name].nuisances, first[name].keep_mask)
            for name, nats in matrices.items()
        }
        body.append(figures.add(plots.plot_latent_information(shown), "information"))
    for name, one in first.items():
        body += _nuisance_figures(name, one, figures, axes or {})
        body += _traversal_figures(name, one, figures)
    return body


def _nuisance_figures(
    name: str, sample: LatentSample, figures: Any, axes: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Each latent's mean over the plane with a nuisance, and the same in numbers."""
    body = []
    for number, nuisance in enumerate(sample.nuisances):
        drawn = plots.plot_latents_against_nuisance(
            sample.mean,
            sample.nuisance[:, number],
            weight=sample.weight,
            correlations=sample.rank_correlations[nuisance],
            kl=sample.kl,
            nats=None if sample.information_gap is None else sample.information_gap.information[:, number],
            **axes.get(nuisance, {"nuisance": nuisance}),
        )
        markup = figures.add(drawn, "latents", f"{name}_{nuisance}", tagger=name, nuisance=nuisance)
        body.append(page.details(f"{name}: latents against {nuisance}", markup + _latent_table(sample)))
    return body


def _traversal_figures(name: str, sample: LatentSample, figures: Any) -> list[str]:
    body = []
    for number, nuisance in enumerate(sample.nuisances):
        if (moved := sample.make_traversal(number)) is None or sample.moved is None:
            continue
        drawn = plots.plot_traversal(moved, nuisance=nuisance)
        about = {"tagger": name, "latent": int(sample.moved[number]), "nuisance": nuisance}
        body.append(figures.add(drawn, "intervention", f"{name}_{nuisance}", **about))
        table = _traversal_table(
            moved, sample.change_raw[number] if sample.change_raw is not None else moved.change
        )
        body.append(page.details(f"{name}: figures of the intervention", table))
    return body


def latent_metrics(latents: Mapping[str, Sequence[LatentSample]]) -> dict[str, Any]:
    """What this section adds to metrics.json."""
    return {name: [one.to_dict() for one in seeds] for name, seeds in latents.items()}


def _gap_table(latents: Mapping[str, Sequence[LatentSample]]) -> str:
    rows: list[list[str | page.TableCell]] = []
    for name, seeds in latents.items():
        gaps = [one.information_gap for one in seeds if one.information_gap is not None]
        cut = "; ".join(", ".join(map(str, np.flatnonzero(~one.keep_mask))) or "none" for one in seeds)
        most = [
            float(np.max(np.where(one.keep_mask, one.information_gap.information.max(1), 0)))
            for one in seeds
            if one.information_gap
        ]
        rows.append(
            [
                name,
                str(len(seeds)),
                page.format_over_seeds([gap.mig for gap in gaps]) if gaps else "–",
                page.TableCell(cut),
                f"{np.mean(most):.3f}" if most else "–",
                "; ".join(f"{one.num_active} of {one.mean.shape[1]}" for one in seeds),
                _format_values([float(one.kl.sum()) for one in seeds if one.kl is not None]),
                _format_values([float(one.mse.mean()) for one in seeds if one.mse is not None]),
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
    return page.html_table(header, rows)


def _format_values(values: Sequence[float]) -> str:
    return page.format_over_seeds([Estimate(one, one, one) for one in values]) if values else "–"


def _latent_table(sample: LatentSample) -> str:
    """One row a latent: its KL, how much its mean varies, what it knows of each nuisance."""
    header = ["Latent", "KL [nats]", "variance of its mean"]
    for nuisance in sample.nuisances:
        header += [f"rank correlation with {nuisance}", f"information on {nuisance} [nats]"]
    rows: list[list[str | page.TableCell]] = []
    for k, variance in enumerate(sample.mean_variances):
        row: list[str | page.TableCell] = [
            str(k),
            "–" if sample.kl is None else f"{sample.kl[k]:.3g}",
            f"{variance:.3g}",
        ]
        for number, nuisance in enumerate(sample.nuisances):
            found = sample.rank_correlations[nuisance][k]
            row.append("–" if found is None else page.format_with_error(found.value, found.std))
            row.append(
                "–"
                if sample.information_gap is None
                else f"{sample.information_gap.information[k, number]:.3f}"
            )
        rows.append(row)
    return page.html_table(header, rows)


def _traversal_table(traversal: Traversal, raw_change: Array) -> str:
    """Change of each feature for the largest shift up, and how events differ."""
    k = int(np.argmax(traversal.shifts))
    rows: list[list[str | page.TableCell]] = []
    for f in np.argsort(-np.abs(traversal.change[k])):
        observed = traversal.observed[k, f]
        seen = (
            page.format_with_error(observed, traversal.observed_error[k, f]) if np.isfinite(observed) else "–"
        )
        rows.append(
            [
                traversal.features[f],
                page.format_with_error(traversal.change[k, f], traversal.change_error[k, f]),
                f"{raw_change[k, f]:.3g}",
                seen,
            ]
        )
    up = f"{traversal.shifts[k]:+g} deviations"
    return page.html_table(
        ["Feature", f"decoded, {up}", "in its own unit", f"events whose nuisance is {up}"], rows
    )


LatentPoint = tuple[Mapping[str, Any], Sequence[LatentSample]]


def latent_scan_section(
    points: Sequence[LatentPoint], *, titles: Mapping[str, str], tagger: str, nuisance: str, figures: Any
) -> list[str]:
    """Figure and table; nothing where no point has latents that tell of the nuisance.

    points: values by key, and the latents of every seed; titles: short names of the keys.
    """
    known = [(values, [one for one in many if nuisance in one.nuisances]) for values, many in points]
    known = [(values, many) for values, many in known if many]
    if not known:
        return []
    first, *others = titles
    lines: dict[str, list[LatentScanPoint]] = {}
    for values, many in known:
        told = ", ".join(f"{titles[key]} = {values[key]}" for key in others)
        lines.setdefault(told or tagger, []).append(make_latent_scan_point(values[first], many, nuisance))
    drawn = plots.plot_latent_scan(lines, title=first, nuisance=nuisance, active_threshold=ACTIVE_THRESHOLD)
    figure = figures.add(drawn, "latentscan", nuisance, tagger=tagger, scanned=first, nuisance=nuisance)
    rows = [
        _scan_row(values, make_latent_scan_point(values[first], many, nuisance), len(many))
        for values, many in known
    ]
    header = [*(titles[key] for key in titles), "seeds", "reconstruction error", "KL of all latents [nats]"]
    header += ["largest KL of one [nats]", "latents in use", f"largest rank correlation with {nuisance}"]
    return [page.heading("Representation", level=3), figure, page.html_table(header, rows)]


def make_latent_scan_point(value: Any, samples: Sequence[LatentSample], nuisance: str) -> LatentScanPoint:
    """What the seeds of one point have in common."""
    kls = [np.sort(one.kl)[::-1] for one in samples if one.kl is not None]
    found = [largest_correlation(one, nuisance) for one in samples]
    told = [one for one in found if one is not None]
    return LatentScanPoint(
        value,
        _spread_estimate([float(one.mse.mean()) for one in samples if one.mse is not None]),
        _spread_estimate([float(one.sum()) for one in kls]),
        [float(one) for one in np.mean(kls, axis=0)] if kls else [],
        _spread_estimate([float(one.num_active) for one in samples]) or Estimate(0, 0, 0),
        told[0] if len(told) == 1 else _spread_estimate([one.value for one in told]),
    )


def largest_correlation(sample: LatentSample, nuisance: str) -> Estimate | None:
    """The largest rank correlation of a latent in use, by absolute value; zero where none is in use.

    A latent that has collapsed has a mean of tiny spread, in which ranks would still see the nuisance.
    """
    used = (sample.mean_variances if sample.kl is None else sample.kl) > ACTIVE_THRESHOLD
    found = [
        m for m, own in zip(sample.rank_correlations[nuisance], used, strict=True) if own and m is not None
    ]
    if not found:
        return Estimate(0.0, 0.0, 0.0, 0.0)
    most = max(found, key=lambda m: abs(m.value))
    std = most.std or 0.0
    return Estimate(abs(most.value), abs(most.value) - std, min(abs(most.value) + std, 1.0), std)


def latent_scan_metrics(samples: Sequence[LatentSample]) -> list[dict[str, Any]]:
    """For points.json, one for each seed."""
    return [one.to_dict() for one in samples]


def _spread_estimate(values: Sequence[float]) -> Estimate | None:
    if not values:
        return None
    found = aggregate_seeds(values)
    std = found.std or 0.0
    return Estimate(found.mean, found.mean - std, found.mean + std, std)


def _scan_row(
    values: Mapping[str, Any], point: LatentScanPoint, num_seeds: int
) -> list[str | page.TableCell]:
    cells = [
        "–" if m is None else page.format_with_error(m.value, m.std)
        for m in (point.mse, point.kl, None, point.num_active, point.correlation)
    ]
    cells[2] = f"{point.kl_per_latent[0]:.3g}" if point.kl_per_latent else "–"
    if not point.num_active.std:
        cells[3] = f"{point.num_active.value:g}"
    return [*(str(value) for value in values.values()), str(num_seeds), *cells]
