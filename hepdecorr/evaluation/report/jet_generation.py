"""Jets that an autoencoder makes, beside true ones: jet_generation.html, figures/, jet_generation.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hepdecorr.errors import InputError
from hepdecorr.evaluation.metrics import format_significant, to_jsonable
from hepdecorr.evaluation.metrics.two_sample import (
    NUM_REPLICAS,
    ObservableSample,
    TwoSampleDistance,
    two_sample_distance,
)
from hepdecorr.evaluation.plots.jet_images import (
    ObservableAxis,
    plot_generated_images,
    plot_generated_spectra,
)
from hepdecorr.evaluation.report import page
from hepdecorr.evaluation.report.content import FigureStore, atomic_write
from hepdecorr.evaluation.report.page import TableCell
from hepdecorr.evaluation.report.scan import provenance_section
from hepdecorr.stats.results import Array

TRUE_JETS, RECONSTRUCTED_JETS, GENERATED_JETS = "true", "reconstructed", "generated"
JET_KINDS = (TRUE_JETS, RECONSTRUCTED_JETS, GENERATED_JETS)
IMAGE_OBSERVABLE = "image"
OBSERVABLE_AXES = {
    "constituent_pt": (r"Constituents' $p_T$", "GeV", True),
    "multiplicity": ("Constituents", "", False),
    "mass": ("Jet mass", "GeV", False),
    "pt": (r"Jet $p_T$", "GeV", False),
    "tau21": (r"$\tau_{21}$", "", False),
}
_OBSERVABLE_LABELS = {
    "constituent_pt": "constituents' pT [GeV]",
    "multiplicity": "constituents",
    "mass": "jet mass [GeV]",
    "pt": "jet pT [GeV]",
    "tau21": "tau21",
    IMAGE_OBSERVABLE: "average image",
}
NUM_BINS = 40
_TAIL_FRACTION = 2e-3  # of the true jets beyond each end of an axis


@dataclass(frozen=True)
class JetGenerationReport:
    """What the page says.

    samples: kind of jets (KINDS) -> observable (TITLES, and IMAGE: places of pixels, with shares of pT);
    pixels: along each side of an image, of which the last place is what lies outside; how: sentences on how
    the jets were made; about: facts that go into the JSON.
    """

    title: str
    tagger: str
    samples: Mapping[str, Mapping[str, ObservableSample]]
    num_pixels: int
    radius: float
    length: int
    boost: str
    seed: int
    description: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    config_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    replicas: int = NUM_REPLICAS


def write_jet_generation_report(folder: Path, content: JetGenerationReport) -> Path:
    """Write the page, its figures and its numbers, the page last."""
    axes = {name: _observable_axis(name, content) for name in OBSERVABLE_AXES}
    found = measure_distances(content, axes)
    figures = FigureStore(folder / "figures")
    images = {kind: _average_image(content, kind) for kind in JET_KINDS}
    edges = np.linspace(-content.radius, content.radius, content.num_pixels + 1)
    title = f"{content.title}: jets made by {content.tagger}"
    body = [
        page.heading(title, level=1),
        page.paragraph(_subtitle(content), css_class="soft"),
        *(page.paragraph(one) for one in content.description),
        page.heading("How much they are like true jets"),
        page.html_table(["Observable", *_TABLE_HEADER], _table_rows(found, content.boost)),
        page.paragraph(
            "W1: Wasserstein's distance, in the unit of the observable, with the error of a bootstrap of the "
            "jets. JSD: Jensen-Shannon divergence in the bins of the figure, 1e-3 nats. Floor: what two "
            "samples of these sizes from one population come to; p is against that, by exchanging jets. "
            "Green: no difference is resolved at 5 %.",
            css_class="soft",
        ),
        page.heading("Spectra and images"),
        figures.add(plot_generated_spectra(content.samples, axes), "made_spectra", length=content.length),
        figures.add(plot_generated_images(images, edges), "made_images"),
        *provenance_section(content.command, content.versions, content.config_text),
    ]
    told = _jet_generation_to_dict(content, found, axes)
    atomic_write(folder / "jet_generation.json", (json.dumps(told, indent=1) + "\n").encode())
    atomic_write(folder / "jet_generation.html", page.html_page(title, body).encode())
    return folder / "jet_generation.html"


def measure_distances(
    content: JetGenerationReport, axes: Mapping[str, ObservableAxis]
) -> dict[str, dict[str, TwoSampleDistance]]:
    """Observable -> kind of jets that are made -> how far it is from true jets."""
    true = content.samples[TRUE_JETS]
    found: dict[str, dict[str, TwoSampleDistance]] = {}
    for name in (*OBSERVABLE_AXES, IMAGE_OBSERVABLE):
        edges = np.arange(content.num_pixels**2 + 2) - 0.5 if name == IMAGE_OBSERVABLE else axes[name].edges
        found[name] = {
            kind: two_sample_distance(
                true[name],
                content.samples[kind][name],
                edges=edges,
                has_distance=name != IMAGE_OBSERVABLE,
                paired=kind == RECONSTRUCTED_JETS,
                replicas=content.replicas,
                seed=content.seed,
            )
            for kind in JET_KINDS[1:]
        }
    return found


def is_copied_from_truth(observable: str, boost: str) -> bool:
    """Whether generated jets take this observable from true ones: from rest nothing tells of a jet's pT."""
    return observable == "pt" and boost == "rest"


_TABLE_HEADER = (
    "reconstructed: W1", "floor", "p", "JSD", "floor", "p",
    "generated: W1", "floor", "p", "JSD", "floor", "p",
)  # fmt: skip


def _table_rows(
    distances: Mapping[str, Mapping[str, TwoSampleDistance]], boost: str
) -> list[list[str | TableCell]]:
    return [
        [_OBSERVABLE_LABELS[name], *_distance_cells(kinds, is_copied_from_truth(name, boost))]
        for name, kinds in distances.items()
    ]


def _distance_cells(distances: Mapping[str, TwoSampleDistance], is_copied: bool) -> list[str | TableCell]:
    cells: list[str | TableCell] = []
    for kind in JET_KINDS[1:]:
        one = distances[kind]
        if kind == GENERATED_JETS and is_copied:
            cells += [TableCell("taken from true jets", "text"), *["–"] * 5]
            continue
        tone = "bad" if one.significant else "good"
        if one.w1 is None:
            cells += ["–", "–", "–"]
        else:
            cells += [
                TableCell(page.format_with_error(one.w1.value, one.w1.std), tone),
                format_significant(one.w1_floor),
                f"{one.w1_p_value:.2g}",
            ]
        thousandth = one.jsd.scaled(1e3)
        cells += [
            TableCell(page.format_with_error(thousandth.value, thousandth.std), tone),
            format_significant(1e3 * one.jsd_floor),
            f"{one.jsd_p_value:.2g}",
        ]
    return cells


def _observable_axis(observable: str, content: JetGenerationReport) -> ObservableAxis:
    title, unit, log = OBSERVABLE_AXES[observable]
    true = content.samples[TRUE_JETS][observable].values
    if not len(true):
        raise InputError(
            f"imagined: no true jet has {_OBSERVABLE_LABELS[observable]}; there is nothing to compare with"
        )
    if observable == "multiplicity":
        return ObservableAxis(title, unit, np.arange(content.length + 2, dtype=np.float64) - 0.5)
    if observable == "tau21":
        return ObservableAxis(title, unit, np.arange(NUM_BINS + 1) / NUM_BINS)
    low, high = (float(one) for one in np.quantile(true, [_TAIL_FRACTION, 1 - _TAIL_FRACTION]))
    if not high > low:
        low, high = low - 0.5 * max(abs(low), 1.0), high + 0.5 * max(abs(high), 1.0)
    if log and low > 0:
        return ObservableAxis(
            title, unit, np.exp(np.linspace(np.log(low), np.log(high), NUM_BINS + 1)), log_scale=True
        )
    return ObservableAxis(title, unit, np.linspace(low, high, NUM_BINS + 1))


def _average_image(content: JetGenerationReport, jet_kind: str) -> Array:
    sample = content.samples[jet_kind][IMAGE_OBSERVABLE]
    weight = sample.weight[sample.jet_index] * sample.value_weight
    filled = np.bincount(sample.values.astype(np.int64), weight, minlength=content.num_pixels**2 + 1)
    return np.asarray(filled[:-1].reshape(content.num_pixels, content.num_pixels) / sample.weight.sum())


def _subtitle(content: JetGenerationReport) -> str:
    jets = content.samples[TRUE_JETS]["mass"].num_jets
    return (
        f"{jets:,} true jets of the test events, cut to their {content.length} leading constituents; as many "
        f"reconstructed and generated; seed {content.seed}."
    )


def _jet_generation_to_dict(
    content: JetGenerationReport,
    distances: Mapping[str, Mapping[str, TwoSampleDistance]],
    axes: Mapping[str, ObservableAxis],
) -> dict[str, Any]:
    """Everything measured, JSON-able."""
    means = {
        name: {kind: _weighted_mean(content.samples[kind][name]) for kind in JET_KINDS}
        for name in OBSERVABLE_AXES
    }
    return {
        "version": 1,
        "tagger": content.tagger,
        "seed": content.seed,
        "command": content.command,
        "versions": dict(content.versions),
        "about": to_jsonable(content.metadata),
        "how": list(content.description),
        "taken_from_true_jets": [
            name for name in OBSERVABLE_AXES if is_copied_from_truth(name, content.boost)
        ],
        "mean": means,
        "edges": {name: to_jsonable(axis.edges) for name, axis in axes.items()},
        "likeness": {
            name: {kind: one.to_dict() for kind, one in kinds.items()} for name, kinds in distances.items()
        },
    }


def _weighted_mean(sample: ObservableSample) -> float:
    weight = sample.weight[sample.jet_index] * sample.value_weight
    total = float(weight.sum())
    return float((weight * sample.values).sum()) / total if total > 0 else 0.0
