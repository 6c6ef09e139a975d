"""Content of the decorrelation report."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hist
import matplotlib as mpl
from matplotlib.figure import Figure

from hepdecorr.evaluation.groups import CodeRegression, GroupedEvents, GroupStability, StabilityRatios
from hepdecorr.evaluation.groups.code_regression import PredictedCondition
from hepdecorr.evaluation.metrics import Estimate, Evaluation, InBins, NuisanceBins, PerSignal
from hepdecorr.evaluation.plots.decision_surface import DecisionSurface
from hepdecorr.evaluation.plots.history import TrainingHistory
from hepdecorr.evaluation.plots.in_bins import SecondVariable
from hepdecorr.evaluation.plots.scores import TaggerScores
from hepdecorr.evaluation.report.latents import LatentSample
from hepdecorr.evaluation.report.page import embed_image
from hepdecorr.evaluation.report.texts import GROUP_CAPTIONS as OF_GROUPS
from hepdecorr.evaluation.report.texts import REPORT_CAPTIONS
from hepdecorr.stats.results import Array

# Beyond this an SVG is slower to show than its picture is worth.
MAX_SVG_BYTES = 1_500_000


DEFAULT_REJECTION = 0.95


@dataclass(frozen=True)
class DecorrelationReport:
    """What a report says; whatever is left out is left out of the page.

    taggers: name -> one Evaluation per seed and nuisance. histograms: nuisance -> sculpting histogram (axes
    dataset, tagger, category, nuisance), with labels: dataset -> 0 or 1. scores: nuisance -> tagger -> its
    events, for the densities. histories: tagger -> curves. completeness: one `Completeness.to_dict()`, or one
    per run. sample: what the figures were measured on. slices: nuisance -> bins of it to look in, and
    in_slices: nuisance -> tagger -> one InSlices per seed. plane: the taggers over the plane of two features.

    For jets: seconds: nuisance -> a second variable of the events in `scores`, such as their pT. images: a
    histogram of average jet images (columnar/images.py). mapped: tagger -> evaluations of its score after a
    quantile map, one per seed and nuisance. series: name -> (label, tagger) in rising strength, the curves of
    R50 against 1/JSD. A histogram with an axis `systematic` adds what the shifts do.

    latents: tagger with a representation -> one for each seed.

    Of several signals: by_sample: score -> one for each seed; a score is a tagger's own, or a further one of
    its graph, 'TAGGER.NAME'. behind: score -> how far its mean AUC is behind the best, by seed. spectra:
    title -> taggers or further scores whose background spectra stand side by side. correlations: nuisance ->
    score -> its rank correlation in background, one for each seed.

    groups: of events that come in groups, such as runs, what differs between these.
    """

    name: str
    taggers: Mapping[str, Sequence[Evaluation]]
    config_text: str = ""
    histograms: Mapping[str, hist.Hist[Any]] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)  # nuisance -> label of its axis, mathtext
    scores: Mapping[str, Mapping[str, TaggerScores]] = field(default_factory=dict)
    histories: Mapping[str, TrainingHistory] = field(default_factory=dict)
    objective_spans: Mapping[str, Sequence[tuple[float, float, str]]] = field(default_factory=dict)
    completeness: Mapping[str, Any] = field(default_factory=dict)
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    second_variables: Mapping[str, SecondVariable] = field(default_factory=dict)
    jet_images: hist.Hist[Any] | None = None
    quantile_mapped: Mapping[str, Sequence[Evaluation]] = field(default_factory=dict)
    series: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    nuisance_bins: Mapping[str, NuisanceBins] = field(default_factory=dict)
    in_bins: Mapping[str, Mapping[str, Sequence[InBins]]] = field(default_factory=dict)
    decision_surface: DecisionSurface | None = None
    latents: Mapping[str, Sequence[LatentSample]] = field(default_factory=dict)
    per_signal: Mapping[str, Sequence[PerSignal]] = field(default_factory=dict)
    auc_deficits: Mapping[str, Sequence[Estimate]] = field(default_factory=dict)
    spectra_panels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rank_correlations: Mapping[str, Mapping[str, Sequence[Estimate]]] = field(default_factory=dict)
    groups: GroupReport | None = None
    sample_description: str = "the test sample"
    created: str = ""


@dataclass
class FigureStore:
    """Saves every figure and keeps its place in the page."""

    folder: Path
    names: set[str] = field(default_factory=set)

    def add(self, fig: Figure, key: str, stem: str = "", **values: Any) -> str:
        """Write the figure as PDF and PNG under its key and stem; its markup, with the caption of the key."""
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", "_".join(filter(None, (key, stem))))
        while name in self.names:
            name += "_"
        self.names.add(name)
        # The layout is the slow part, and the same for all three.
        fig.draw_without_rendering()
        fig.set_layout_engine("none")
        made = {kind: render_figure(fig, kind) for kind in ("pdf", "png", "svg")}
        for kind in ("pdf", "png"):
            atomic_write(self.folder / f"{name}.{kind}", made[kind])
        title, caption = (text.format(**values) for text in (REPORT_CAPTIONS | OF_GROUPS)[key])
        small = len(made["svg"]) < MAX_SVG_BYTES
        content = made["svg"] if small else made["png"]
        return embed_image(content, image_format="svg+xml" if small else "png", title=title, caption=caption)


def render_figure(fig: Figure, image_format: str) -> bytes:
    """The figure as 'pdf', 'png' or 'svg', the same bytes at every call."""
    stream = io.BytesIO()
    settings: Any = {
        "svg.hashsalt": "hepdecorr",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
        "savefig.facecolor": "white",
    }
    dates: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    with mpl.rc_context(settings):
        fig.savefig(stream, format=image_format, dpi=160, metadata=dates[image_format])
    return stream.getvalue()


def atomic_write(path: Path, content: bytes) -> None:
    """Write or replace a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        # mkstemp makes files for their owner alone.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class GroupReport:
    """What a report says of groups.

    named: what names a group, 'run'. measured: tagger -> one for each seed. logits: tagger -> (events,) of
    its first seed, for the figures. reference: the tagger that the others are set against, and ratios:
    tagger -> seed -> at each rejection. recovered: tagger -> condition -> one for each seed, and mapped: of
    the first seed, for the figures. thinned: tagger -> condition -> the same with codes of fewer and fewer
    of each group's events, of the first seed, fewest first. titles: condition -> its title and unit. shown:
    taggers of the figures that have no room for all. notes: what could not be measured and why.
    """

    group_label: str
    events: GroupedEvents
    stability: Mapping[str, Sequence[GroupStability]]
    logits: Mapping[str, Array]
    reference: str = ""
    ratios: Mapping[str, Sequence[Sequence[StabilityRatios]]] = field(default_factory=dict)
    regressions: Mapping[str, Mapping[str, Sequence[CodeRegression]]] = field(default_factory=dict)
    predictions: Mapping[str, Mapping[str, PredictedCondition]] = field(default_factory=dict)
    thinned_regressions: Mapping[str, Mapping[str, Sequence[CodeRegression]]] = field(default_factory=dict)
    rejection: float = (
        DEFAULT_REJECTION  # background rejection that figures and words are about, or the nearest to it
    )
    titles: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    requested_taggers: Sequence[str] = ()
    notes: Sequence[str] = ()

    def condition_title(self, condition: str) -> tuple[str, str]:
        """Title and unit of a condition."""
        return self.titles.get(condition, (condition, ""))

    @property
    def shown_taggers(self) -> list[str]:
        """Taggers for figures that have no room for all: as asked, or the reference and those with codes."""
        known = [name for name in self.requested_taggers if name in self.stability]
        order = [self.reference, *self.regressions, *self.stability]
        return known or [name for name in dict.fromkeys(order) if name in self.stability][:MAX_TAGGERS_SHOWN]


MAX_TAGGERS_SHOWN = 4  # taggers in a figure with one row, or column, for each
