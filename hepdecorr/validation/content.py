"""What a report is made of, and where its figures go."""

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

from hepdecorr.validation import page
from hepdecorr.validation.captions import CAPTIONS
from hepdecorr.validation.group_captions import CAPTIONS as OF_GROUPS
from hepdecorr.validation.group_content import BetweenGroups
from hepdecorr.validation.latents import Latents
from hepdecorr.validation.measures import BySample, Evaluation, InSlices, Measured, Slices
from hepdecorr.validation.plots.history import History
from hepdecorr.validation.plots.scores import Scores
from hepdecorr.validation.plots.slices import Second
from hepdecorr.validation.plots.surfaces import Plane

# Beyond this an SVG is slower to show than its picture is worth.
SVG_LIMIT = 1_500_000


@dataclass(frozen=True)
class ReportInput:
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
    scores: Mapping[str, Mapping[str, Scores]] = field(default_factory=dict)
    histories: Mapping[str, History] = field(default_factory=dict)
    turns: Mapping[str, Sequence[tuple[float, float, str]]] = field(default_factory=dict)
    completeness: Mapping[str, Any] = field(default_factory=dict)
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, Second] = field(default_factory=dict)
    images: hist.Hist[Any] | None = None
    mapped: Mapping[str, Sequence[Evaluation]] = field(default_factory=dict)
    series: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    slices: Mapping[str, Slices] = field(default_factory=dict)
    in_slices: Mapping[str, Mapping[str, Sequence[InSlices]]] = field(default_factory=dict)
    plane: Plane | None = None
    latents: Mapping[str, Sequence[Latents]] = field(default_factory=dict)
    by_sample: Mapping[str, Sequence[BySample]] = field(default_factory=dict)
    behind: Mapping[str, Sequence[Measured]] = field(default_factory=dict)
    spectra: Mapping[str, Sequence[str]] = field(default_factory=dict)
    correlations: Mapping[str, Mapping[str, Sequence[Measured]]] = field(default_factory=dict)
    groups: BetweenGroups | None = None
    sample: str = "the test sample"
    created: str = ""


@dataclass
class Figures:
    """Saves every figure and keeps its place in the page."""

    folder: Path
    names: set[str] = field(default_factory=set)

    def add(self, drawn: Figure, key: str, stem: str = "", **values: Any) -> str:
        """Write the figure as PDF and PNG under its key and stem; its markup, with the caption of the key."""
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", "_".join(filter(None, (key, stem))))
        while name in self.names:
            name += "_"
        self.names.add(name)
        # The layout is the slow part, and the same for all three.
        drawn.draw_without_rendering()
        drawn.set_layout_engine("none")
        made = {kind: rendered(drawn, kind) for kind in ("pdf", "png", "svg")}
        for kind in ("pdf", "png"):
            write(self.folder / f"{name}.{kind}", made[kind])
        title, caption = (text.format(**values) for text in (CAPTIONS | OF_GROUPS)[key])
        small = len(made["svg"]) < SVG_LIMIT
        content = made["svg"] if small else made["png"]
        return page.image(content, kind="svg+xml" if small else "png", title=title, caption=caption)


def rendered(drawn: Figure, kind: str) -> bytes:
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
        drawn.savefig(stream, format=kind, dpi=160, metadata=dates[kind])
    return stream.getvalue()


def write(path: Path, content: bytes) -> None:
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
