"""Part of a scan's page on representations: their reconstruction, KL and correlation with a nuisance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepdecorr.validation import page, plots
from hepdecorr.validation.latents import ACTIVE, Latents
from hepdecorr.validation.measures import Measured, over_seeds
from hepdecorr.validation.plots.latent_scans import LatentStep

Point = tuple[Mapping[str, Any], Sequence[Latents]]


def section(
    points: Sequence[Point], *, titles: Mapping[str, str], tagger: str, nuisance: str, figures: Any
) -> list[str]:
    """Figure and table; nothing where no point has latents that tell of the nuisance.

    points: values by key, and the latents of every seed; titles: short names of the keys.
    """
    known = [(values, [one for one in many if nuisance in one.nuisances]) for values, many in points]
    known = [(values, many) for values, many in known if many]
    if not known:
        return []
    first, *others = titles
    lines: dict[str, list[LatentStep]] = {}
    for values, many in known:
        told = ", ".join(f"{titles[key]} = {values[key]}" for key in others)
        lines.setdefault(told or tagger, []).append(step(values[first], many, nuisance))
    drawn = plots.latent_scan(lines, title=first, nuisance=nuisance, active=ACTIVE)
    figure = figures.add(drawn, "latentscan", nuisance, tagger=tagger, scanned=first, nuisance=nuisance)
    rows = [_row(values, step(values[first], many, nuisance), len(many)) for values, many in known]
    header = [*(titles[key] for key in titles), "seeds", "reconstruction error", "KL of all latents [nats]"]
    header += ["largest KL of one [nats]", "latents in use", f"largest rank correlation with {nuisance}"]
    return [page.heading("Representation", level=3), figure, page.table(header, rows)]


def step(value: Any, many: Sequence[Latents], nuisance: str) -> LatentStep:
    """What the seeds of one point have in common."""
    kls = [np.sort(one.kl)[::-1] for one in many if one.kl is not None]
    found = [largest(one, nuisance) for one in many]
    told = [one for one in found if one is not None]
    return LatentStep(
        value,
        _spread([float(one.mse.mean()) for one in many if one.mse is not None]),
        _spread([float(one.sum()) for one in kls]),
        [float(one) for one in np.mean(kls, axis=0)] if kls else [],
        _spread([float(one.active) for one in many]) or Measured(0, 0, 0),
        told[0] if len(told) == 1 else _spread([one.value for one in told]),
    )


def largest(one: Latents, nuisance: str) -> Measured | None:
    """The largest rank correlation of a latent in use, by absolute value; zero where none is in use.

    A latent that has collapsed has a mean of tiny spread, in which ranks would still see the nuisance.
    """
    used = (one.variances if one.kl is None else one.kl) > ACTIVE
    found = [m for m, own in zip(one.known[nuisance], used, strict=True) if own and m is not None]
    if not found:
        return Measured(0.0, 0.0, 0.0, 0.0)
    most = max(found, key=lambda m: abs(m.value))
    std = most.std or 0.0
    return Measured(abs(most.value), abs(most.value) - std, min(abs(most.value) + std, 1.0), std)


def numbers(many: Sequence[Latents]) -> list[dict[str, Any]]:
    """For points.json, one for each seed."""
    return [one.to_dict() for one in many]


def _spread(values: Sequence[float]) -> Measured | None:
    if not values:
        return None
    found = over_seeds(values)
    std = found.std or 0.0
    return Measured(found.mean, found.mean - std, found.mean + std, std)


def _row(values: Mapping[str, Any], one: LatentStep, seeds: int) -> list[str | page.Cell]:
    cells = [
        "–" if m is None else page.plus_minus(m.value, m.std)
        for m in (one.mse, one.kl, None, one.active, one.correlation)
    ]
    cells[2] = f"{one.each[0]:.3g}" if one.each else "–"
    if not one.active.std:
        cells[3] = f"{one.active.value:g}"
    return [*(str(value) for value in values.values()), str(seeds), *cells]
