"""Scores of a tagger beside its own, in the shipped processor: columns, cuts and histograms of their own."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import awkward as ak
import numpy as np
import pytest
from coffea.nanoevents import NanoEventsFactory, PFNanoAODSchema

from hepdecorr.catalogue import load_file
from hepdecorr.columnar import rows
from hepdecorr.columnar.filesets import Dataset, expand
from hepdecorr.columnar.running import run
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError

JETS = Path(__file__).parents[1] / "columnar" / "jets"
# coffea tells of every cross-reference that a file has not
pytestmark = pytest.mark.filterwarnings("ignore:Missing cross-reference")
OBJECTS = {"collection": "FatJet", "puppi": "auto"}
NUISANCES = {"mass": {"feature": "FatJet.mass", "low": 0, "high": 300, "bins": 7, "unit": "GeV"}}
SCORES = {"vae": ["kl", "emd", "emd_plane"]}
CUTS = {"": -5.0, "kl": 5.0, "emd": 1.2}


@pytest.fixture(scope="module")
def sculpting() -> Any:
    return load_file(Path(__file__).parents[2] / "processors" / "sculpting.py").Sculpting


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    folder = tmp_path_factory.mktemp("jets")
    making = load_file(JETS / "making_jets.py")
    for k, name in enumerate(("s", "b")):
        physics = making.physics(30, seed=3 + k, start=100 * k)
        making.write(folder / f"{name}.root", physics, layout="pfnano_raw")
    spec = {"sig": {"files": "s.root", "label": "signal"}, "bkg": {"files": "b.root", "label": "background"}}
    return expand(spec, base=folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An autoencoder, and a tagger with one score; emd_plane has no cut, as a score that cannot be cut on."""
    making: ModuleType = load_file(JETS / "making_taggers.py")
    point = {"background_efficiency": 0.5, "signal_efficiency": 0.5, "background_events": 100}
    points = {name: [{**point, "rejection": 0.5, "threshold": cut}] for name, cut in CUTS.items()}
    own = points.pop("")
    cards = {
        "vae": making.card(
            outputs=making.OUTPUTS, working_points=own, further_points=points, title="Autoencoder"
        ),
        "plain": making.card(working_points=own),
    }
    found = {}
    for name, card in cards.items():
        found[name] = tmp_path_factory.mktemp(name)
        (found[name] / "tagger.onnx").write_bytes(making.model(of=card))
    return found


def evaluated(made: Any, datasets: list[Dataset], *, chunksize: int) -> Any:
    out = run(datasets, pickle.loads(pickle.dumps(made)), schema=PFNanoAODSchema, chunksize=chunksize).out
    about: dict[str, Any] = {"datasets": datasets, "provenance": {}}
    table = rows.finish_table(out["chunks"], folder=made.folder, columns=made.columns, **about)
    return out["histograms"], table


def test_they_are_stored_and_cut_as_taggers_of_their_own(
    sculpting: Any, datasets: Any, models: Any, tmp_path: Path
) -> None:
    about: dict[str, Any] = {"nuisances": NUISANCES, "objects": OBJECTS, "taggers": models}
    made = sculpting(scores=SCORES, folder=tmp_path / "all", **about)
    histograms, table = evaluated(made, datasets, chunksize=1000)
    assert table.names("score") == ["vae", "plain", "vae.kl", "vae.emd", "vae.emd_plane"]
    assert table.column("vae.emd").title == "Autoencoder: emd"

    path = {d.name: d.files[0] for d in datasets}["bkg"]
    events = NanoEventsFactory.from_root({path: "Events"}, schemaclass=PFNanoAODSchema).events()
    vae = OnnxTagger(models["vae"])
    known = {"vae": vae.logit(events)}
    known |= {f"vae.{score}": vae.further(events, score) for score in SCORES["vae"]}
    flat = {name: ak.to_numpy(ak.flatten(one)) for name, one in known.items()}
    mass = ak.to_numpy(ak.flatten(events["FatJet"]["mass"]))
    found = table.read([*known, "label"])
    for name, values in flat.items():
        assert np.ptp(values) > 0.1
        np.testing.assert_array_equal(np.sort(found[name][found["label"] == 0]), np.sort(values))
        score = name.partition(".")[2]
        above = values > np.float32(CUTS.get(score, np.inf))
        for category, mask in (("before", mass > 0), ("pass 0.5", above), ("fail 0.5", ~above)):
            filled = histograms["mass"]["bkg", "nominal", name, category, :]
            if score == "emd_plane" and category != "before":
                assert filled.sum(flow=True).value == 0
                continue
            expected, _ = np.histogram(mass[mask], bins=filled.axes[0].edges)
            np.testing.assert_allclose(filled.values(), expected, err_msg=f"{name} {category}")
            assert expected.sum() > 0

    # In other chunks the same, and without the key nothing but the taggers' own.
    other, again = evaluated(sculpting(scores=SCORES, folder=tmp_path / "b", **about), datasets, chunksize=7)
    assert other == histograms
    np.testing.assert_array_equal(again.read(["vae.emd"])["vae.emd"], found["vae.emd"])
    _, alone = evaluated(sculpting(folder=tmp_path / "c", **about), datasets, chunksize=1000)
    assert alone.names("score") == ["vae", "plain"]
    np.testing.assert_array_equal(alone.read(["vae"])["vae"], found["vae"])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"vae": ["kl", "edm"]}, "tagger vae has no score 'edm'; did you mean 'emd'"),
        ({"plain": ["emd"]}, "tagger plain has no score 'emd'; it gives none beside its own"),
        ({"vea": ["emd"]}, "scores of 'vea': no such tagger; did you mean 'vae'"),
    ],
)
def test_scores_that_there_are_not(sculpting: Any, models: Any, scores: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sculpting(taggers=models, nuisances=NUISANCES, objects=OBJECTS, scores=scores)
