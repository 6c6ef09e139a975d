"""The tagger that ships works on the sample that ships, as the README says."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import yaml
from coffea.nanoevents import NanoEventsFactory

from hepdecorr import OnnxTagger
from hepdecorr.columnar import rows
from hepdecorr.columnar.schemas import BsgammaSchema
from hepdecorr.samples import builtin
from hepdecorr.table import Split

FOLDER = Path(__file__).parents[1] / "models" / "builtin" / "bsgamma-disco-1"


def logits(name: str, tagger: OnnxTagger) -> np.ndarray:
    """Of the events that the training did not see."""
    events = NanoEventsFactory.from_root(
        {str(builtin()[name]): "Events"}, schemaclass=BsgammaSchema, metadata={"dataset": name}
    ).events()
    unseen = rows.of_part(events, split=Split(10, (0,), (5, 6, 7, 8, 9)), part="test")
    return ak.to_numpy(tagger.logit(events[unseen]))


def test_it_separates_and_holds_its_working_points() -> None:
    tagger = OnnxTagger(FOLDER)
    signal, background = (logits(f"bsgamma_{name}.root", tagger) for name in ("signal", "continuum"))
    for point in tagger.card.working_points[:3]:
        assert (background > point.threshold).mean() == pytest.approx(1 - point.rejection, rel=0.15)
        assert (signal > point.threshold).mean() == pytest.approx(point.signal_efficiency, abs=0.02)
    assert (signal > tagger.card.working_point(0.95).threshold).mean() > 0.95


def test_its_card_is_readable_and_holds_no_path_of_a_machine() -> None:
    card = OnnxTagger(FOLDER).card
    written = yaml.safe_load((FOLDER / "card.yaml").read_text())
    assert written["name"] == card.name == "bsgamma-disco-1"
    assert [f["name"] for f in written["inputs"][0]["features"]] == card.feature_names
    graph = (FOLDER / "tagger.onnx").read_bytes()
    # The exporter notes a stack trace at every node, with the paths of the machine that trained.
    assert b".py" not in graph
