"""Jets that an autoencoder makes, beside true ones: imagined.html, figures/, imagined.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hepdecorr.errors import InputError
from hepdecorr.validation import page
from hepdecorr.validation.content import Figures, write
from hepdecorr.validation.measures import plain, significant
from hepdecorr.validation.measures.likeness import REPLICAS, Likeness, Sample, likeness
from hepdecorr.validation.measures.numbers import Array
from hepdecorr.validation.page import Cell
from hepdecorr.validation.plots.generation import Axis, made_images, made_spectra
from hepdecorr.validation.scanned import provenance

TRUE, RECONSTRUCTED, GENERATED = "true", "reconstructed", "generated"
KINDS = (TRUE, RECONSTRUCTED, GENERATED)
IMAGE = "image"
TITLES = {
    "constituent_pt": (r"Constituents' $p_T$", "GeV", True),
    "multiplicity": ("Constituents", "", False),
    "mass": ("Jet mass", "GeV", False),
    "pt": (r"Jet $p_T$", "GeV", False),
    "tau21": (r"$\tau_{21}$", "", False),
}
_NAMES = {
    "constituent_pt": "constituents' pT [GeV]",
    "multiplicity": "constituents",
    "mass": "jet mass [GeV]",
    "pt": "jet pT [GeV]",
    "tau21": "tau21",
    IMAGE: "average image",
}
BINS = 40
_TAIL = 2e-3  # of the true jets beyond each end of an axis


@dataclass(frozen=True)
class ImaginedInput:
    """What the page says.

    samples: kind of jets (KINDS) -> observable (TITLES, and IMAGE: places of pixels, with shares of pT);
    pixels: along each side of an image, of which the last place is what lies outside; how: sentences on how
    the jets were made; about: facts that go into the JSON.
    """

    title: str
    tagger: str
    samples: Mapping[str, Mapping[str, Sample]]
    pixels: int
    radius: float
    length: int
    boost: str
    seed: int
    how: Sequence[str] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    config_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    replicas: int = REPLICAS


def write_imagined(folder: Path, content: ImaginedInput) -> Path:
    """Write the page, its figures and its numbers, the page last."""
    axes = {name: _axis(name, content) for name in TITLES}
    found = measured(content, axes)
    figures = Figures(folder / "figures")
    images = {kind: _image(content, kind) for kind in KINDS}
    edges = np.linspace(-content.radius, content.radius, content.pixels + 1)
    title = f"{content.title}: jets made by {content.tagger}"
    body = [
        page.heading(title, level=1),
        page.paragraph(_subtitle(content), kind="soft"),
        *(page.paragraph(one) for one in content.how),
        page.heading("How much they are like true jets"),
        page.table(["Observable", *_HEADER], _rows(found, content.boost)),
        page.paragraph(
            "W1: Wasserstein's distance, in the unit of the observable, with the error of a bootstrap of the "
            "jets. JSD: Jensen-Shannon divergence in the bins of the figure, 1e-3 nats. Floor: what two "
            "samples of these sizes from one population come to; p is against that, by exchanging jets. "
            "Green: no difference is resolved at 5 %.",
            kind="soft",
        ),
        page.heading("Spectra and images"),
        figures.add(made_spectra(content.samples, axes), "made_spectra", length=content.length),
        figures.add(made_images(images, edges), "made_images"),
        *provenance(content.command, content.versions, content.config_text),
    ]
    told = _numbers(content, found, axes)
    write(folder / "imagined.json", (json.dumps(told, indent=1) + "\n").encode())
    write(folder / "imagined.html", page.page(title, body).encode())
    return folder / "imagined.html"


def measured(content: ImaginedInput, axes: Mapping[str, Axis]) -> dict[str, dict[str, Likeness]]:
    """Observable -> kind of jets that are made -> how far it is from true jets."""
    true = content.samples[TRUE]
    found: dict[str, dict[str, Likeness]] = {}
    for name in (*TITLES, IMAGE):
        edges = np.arange(content.pixels**2 + 2) - 0.5 if name == IMAGE else axes[name].edges
        found[name] = {
            kind: likeness(
                true[name],
                content.samples[kind][name],
                edges=edges,
                metric=name != IMAGE,
                paired=kind == RECONSTRUCTED,
                replicas=content.replicas,
                seed=content.seed,
            )
            for kind in KINDS[1:]
        }
    return found


def fixed(name: str, boost: str) -> bool:
    """Whether generated jets take this observable from true ones: from rest nothing tells of a jet's pT."""
    return name == "pt" and boost == "rest"


_HEADER = (
    "reconstructed: W1", "floor", "p", "JSD", "floor", "p",
    "generated: W1", "floor", "p", "JSD", "floor", "p",
)  # fmt: skip


def _rows(found: Mapping[str, Mapping[str, Likeness]], boost: str) -> list[list[str | Cell]]:
    return [[_NAMES[name], *_cells(kinds, fixed(name, boost))] for name, kinds in found.items()]


def _cells(kinds: Mapping[str, Likeness], taken: bool) -> list[str | Cell]:
    cells: list[str | Cell] = []
    for kind in KINDS[1:]:
        one = kinds[kind]
        if kind == GENERATED and taken:
            cells += [Cell("taken from true jets", "text"), *["–"] * 5]
            continue
        tone = "bad" if one.resolved else "good"
        if one.w1 is None:
            cells += ["–", "–", "–"]
        else:
            cells += [
                Cell(page.plus_minus(one.w1.value, one.w1.std), tone),
                significant(one.w1_floor),
                f"{one.w1_p:.2g}",
            ]
        thousandth = one.jsd.scaled(1e3)
        cells += [
            Cell(page.plus_minus(thousandth.value, thousandth.std), tone),
            significant(1e3 * one.jsd_floor),
            f"{one.jsd_p:.2g}",
        ]
    return cells


def _axis(name: str, content: ImaginedInput) -> Axis:
    title, unit, log = TITLES[name]
    true = content.samples[TRUE][name].values
    if not len(true):
        raise InputError(f"imagined: no true jet has {_NAMES[name]}; there is nothing to compare with")
    if name == "multiplicity":
        return Axis(title, unit, np.arange(content.length + 2, dtype=np.float64) - 0.5)
    if name == "tau21":
        return Axis(title, unit, np.arange(BINS + 1) / BINS)
    low, high = (float(one) for one in np.quantile(true, [_TAIL, 1 - _TAIL]))
    if not high > low:
        low, high = low - 0.5 * max(abs(low), 1.0), high + 0.5 * max(abs(high), 1.0)
    if log and low > 0:
        return Axis(title, unit, np.exp(np.linspace(np.log(low), np.log(high), BINS + 1)), log=True)
    return Axis(title, unit, np.linspace(low, high, BINS + 1))


def _image(content: ImaginedInput, kind: str) -> Array:
    sample = content.samples[kind][IMAGE]
    weight = sample.weight[sample.owner] * sample.share
    filled = np.bincount(sample.values.astype(np.int64), weight, minlength=content.pixels**2 + 1)
    return np.asarray(filled[:-1].reshape(content.pixels, content.pixels) / sample.weight.sum())


def _subtitle(content: ImaginedInput) -> str:
    jets = content.samples[TRUE]["mass"].jets
    return (
        f"{jets:,} true jets of the test events, cut to their {content.length} leading constituents; as many "
        f"reconstructed and generated; seed {content.seed}."
    )


def _numbers(
    content: ImaginedInput, found: Mapping[str, Mapping[str, Likeness]], axes: Mapping[str, Axis]
) -> dict[str, Any]:
    """Everything measured, JSON-able."""
    means = {name: {kind: _mean(content.samples[kind][name]) for kind in KINDS} for name in TITLES}
    return {
        "version": 1,
        "tagger": content.tagger,
        "seed": content.seed,
        "command": content.command,
        "versions": dict(content.versions),
        "about": plain(content.about),
        "how": list(content.how),
        "taken_from_true_jets": [name for name in TITLES if fixed(name, content.boost)],
        "mean": means,
        "edges": {name: plain(axis.edges) for name, axis in axes.items()},
        "likeness": {
            name: {kind: one.to_dict() for kind, one in kinds.items()} for name, kinds in found.items()
        },
    }


def _mean(sample: Sample) -> float:
    weight = sample.weight[sample.owner] * sample.share
    total = float(weight.sum())
    return float((weight * sample.values).sum()) / total if total > 0 else 0.0
