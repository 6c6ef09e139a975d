"""Jets made by a trained JetVAE: through the command's steps, on small files in the layout of CMS."""

from __future__ import annotations

import io
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from rich.console import Console

from hepdecorr import Table
from hepdecorr.card import GENERATOR_KEY, GeneratorCard
from hepdecorr.catalogue import load_file
from hepdecorr.cli import imagining as cli
from hepdecorr.cli.steps import Analysis
from hepdecorr.columnar import imagining, laboratory
from hepdecorr.columnar.imagining import Generator
from hepdecorr.config import load
from hepdecorr.errors import InputError
from hepdecorr.table import Selection

ROOT = Path(__file__).parents[2]
making = load_file(ROOT / "tests" / "columnar" / "jets" / "making_jets.py")

CONFIG = f"""\
name: made
output: out
models: models
samples:
  schema: PFNanoAODSchema
  datasets:
    w: {{files: w.root, label: signal}}
    qcd: {{files: qcd.root, label: background}}
objects: {{collection: FatJet}}
constituents: {{length: 12, features: [pt, eta, phi, mass]}}
features: [jet_mass]
selection: [{{feature: jet_pt, min: 300}}, {{feature: n_constituents, min: 5}}]
weights: [genWeight]
nuisances: {{mass: {{feature: jet_mass, low: 0, high: 300, bins: 20}}}}
working_points: [0.5]
taggers:
  told:
    type: JetVAE
    network: {{type: FullyConnected, hidden: [32]}}
    latents: 3
    frame: {{length: 8}}
    condition: [jet_mass]
    beta: 0.01
    training: {{turns: 300, batch: 200, lr: 5.e-3}}
  plain: {{type: Tagger, network: {{type: DeepSets, phi: [4]}}}}
running: {{executor: iterative}}
processors:
  table: {ROOT}/processors/training_table.py:TrainingTable
  evaluate: {ROOT}/processors/sculpting.py:Sculpting
"""


def analysis(folder: Path, *only: str, stream: io.StringIO | None = None) -> Analysis:
    console = Console(file=stream, width=400) if stream else Console(quiet=True)
    return Analysis(load(folder / "made.yaml"), console=console, only=list(only))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained analysis."""
    made = tmp_path_factory.mktemp("imagine")
    for name, events, seed in (("w", 200, 1), ("qcd", 1500, 2)):
        physics = making.physics(events, process=name, seed=seed, start=10_000 * seed)
        making.write(made / f"{name}.root", physics, layout="pfnano_raw")
    (made / "made.yaml").write_text(CONFIG)
    steps = analysis(made)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Missing cross-reference")
        steps.table()
    analysis(made, "told").train()
    (made / "models" / "made-plain-1").mkdir()
    (made / "models" / "made-plain-1" / "tagger.onnx").touch()  # a tagger that decodes nothing
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    (found,) = analysis(folder, "told").imagine(jets=300, seed=4)
    return found


def made_by(folder: Path, *, jets: int = 5000, seed: int = 4) -> imagining.Imagined:
    steps = analysis(folder)
    select = Selection("test", steps.config.table_split, label=0)
    table = Table.open(folder / "out" / "table")
    return imagining.imagine(folder / "models" / "made-told-1", table, select=select, jets=jets, seed=seed)


def test_the_generator_lies_beside_the_tagger_and_is_its_decoder(folder: Path) -> None:
    model = folder / "models" / "made-told-1"
    session = onnxruntime.InferenceSession(model / "generator.onnx")
    assert [(i.name, i.shape[1:]) for i in session.get_inputs()] == [
        ("latent", [3]),
        ("condition", [1]),
    ]
    card = GeneratorCard.model_validate_json(session.get_modelmeta().custom_metadata_map[GENERATOR_KEY])
    assert (card.tagger, card.latents, card.boost, card.length) == ("made-told-1", 3, "rest", 8)
    # what the tagger reconstructs is what the generator makes of the means that the tagger gives
    draw = np.random.default_rng(1)
    x = np.stack([draw.uniform(20, 90, (50, 8)), *draw.normal(0, 0.2, (2, 50, 8)), np.zeros((50, 8))], 2)
    mass = draw.uniform(30, 90, (50, 1)).astype(np.float32)
    given = {"features": mass, "constituents": x.astype(np.float32), "mask": np.ones((50, 8), np.float32)}
    means, momenta = onnxruntime.InferenceSession(model / "tagger.onnx").run(
        ["means", "output_momenta"], given
    )
    made = Generator(model)(means, mass)
    there = made[..., 0] > 0
    assert there.mean() > 0.8
    np.testing.assert_allclose(made[there], momenta[there], rtol=1e-4, atol=1e-3)
    assert Generator(model)(means[:0], mass[:0]).shape == (0, 8, 4)


def test_true_jets_are_those_of_the_table_and_reconstructed_ones_follow_them(folder: Path) -> None:
    made = made_by(folder)
    own = Table.open(folder / "out" / "table").read(
        ["constituents.pt", "constituents.count", "weight"],
        select=Selection("test", analysis(folder).config.table_split, label=0),
    )
    there = np.arange(8) < own["constituents.count"][:, None]
    pt = np.sort(np.where(there, own["constituents.pt"][:, :8], 0).sum(1).astype(np.float64))
    assert len(pt) > 200
    found = np.hypot(made.true[..., 1], made.true[..., 2]).sum(1)
    np.testing.assert_allclose(np.sort(found), pt, rtol=5e-3)
    assert sorted(made.weight) == pytest.approx(sorted(own["weight"].astype(float)))
    true, again = (p.sum(1) for p in (made.true, made.reconstructed))
    direction = [np.arctan2(p[:, 2], p[:, 1]) for p in (true, again)]
    turned = np.abs((direction[0] - direction[1] + np.pi) % (2 * np.pi) - np.pi)
    assert np.median(turned) < 0.1
    assert np.corrcoef(laboratory.mass_of(true), laboratory.mass_of(again))[0, 1] > 0.5


def test_generated_jets_lie_where_true_ones_do(folder: Path) -> None:
    made = made_by(folder)
    true, other = made.true.sum(1), made.generated.sum(1)
    # with their momentum, but for what was softer than anything
    np.testing.assert_allclose(np.median(np.abs(other / true - 1)[:, 1:], axis=0), 0, atol=0.02)
    eta, phi = (
        [np.arcsinh(p[:, 3] / np.hypot(p[:, 1], p[:, 2])), np.arctan2(p[:, 2], p[:, 1])]
        for p in (true, other)
    )
    assert np.median(np.abs(eta[0] - phi[0])) < 0.1
    masses = [laboratory.mass_of(p) for p in (true, other)]
    assert 0.2 < np.median(masses[1]) / np.median(masses[0]) < 2
    # they were told those masses
    assert np.corrcoef(*masses)[0, 1] > 0.5
    again = made_by(folder)
    np.testing.assert_array_equal(again.generated, made.generated)
    assert not np.array_equal(made_by(folder, seed=5).generated, made.generated)


def test_a_told_decoder_makes_what_it_is_told(folder: Path) -> None:
    generator = Generator(folder / "models" / "made-told-1")
    assert generator.card.condition == ("jet_mass",)
    latent = np.random.default_rng(2).normal(size=(500, 3))
    mass = [
        np.median(laboratory.mass_of(laboratory.on_shell(p.astype(float)).sum(1)))
        for p in (generator(latent, np.full((500, 1), m)) for m in (40.0, 200.0))
    ]
    assert mass[1] > 1.5 * mass[0]


def test_the_page_and_its_numbers(folder: Path, page: Path) -> None:
    assert page == folder / "out" / "imagined" / "told-1" / "imagined.html"
    told = json.loads((page.parent / "imagined.json").read_text())
    assert set(told["likeness"]) == {"constituent_pt", "multiplicity", "mass", "pt", "tau21", "image"}
    assert told["taken_from_true_jets"] == ["pt"]
    for name, kinds in told["likeness"].items():
        for one in kinds.values():
            assert one["jets"] == [300, 300]
            assert one["jsd"]["std"] > 0
            assert one["jsd_floor"] > 0
            assert (one["w1"] is None) == (name == "image")
    assert told["likeness"]["mass"]["generated"]["w1"]["value"] > 0
    with np.load(page.parent / "jets.npz") as stored:
        assert {name: stored[name].shape for name in stored} == {
            "weight": (300,), "true": (300, 8, 4), "reconstructed": (300, 8, 4), "generated": (300, 8, 4),
        }  # fmt: skip
        total = stored["true"].astype(float).sum(1)
    weight = np.load(page.parent / "jets.npz")["weight"]
    mass = np.average(laboratory.mass_of(total), weights=weight)
    assert told["mean"]["mass"]["true"] == pytest.approx(mass, rel=1e-3)
    figures = {one.name for one in (page.parent / "figures").iterdir()}
    assert figures == {f"made_{kind}.{end}" for kind in ("spectra", "images") for end in ("pdf", "png")}
    text = page.read_text()
    assert "pT spectrum is that of true jets by construction" in text
    assert text.count("taken from true jets") == 1  # of pT alone


def test_what_is_finished_is_not_made_again(
    folder: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, stream = page.stat().st_mtime_ns, io.StringIO()
    analysis(folder, "told", stream=stream).imagine(jets=300, seed=4)
    assert "finished already" in stream.getvalue()
    assert page.stat().st_mtime_ns == before
    asked: list[int] = []
    monkeypatch.setattr(cli, "write", lambda *_, jets, **__: asked.append(jets))
    analysis(folder, "told").imagine(jets=50, seed=4)
    analysis(folder, "told").imagine(jets=300, seed=4, redo=True)
    assert asked == [50, 300]


def test_what_cannot_be_made_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"plain-1: none has a decoder, generator.onnx; a JetVAE leaves one"):
        analysis(folder, "plain").imagine(jets=10, seed=1)
    with pytest.raises(InputError, match=r"generator\.onnx: no such file"):
        Generator(folder / "models" / "made-plain-1")
    other = shutil.copytree(folder / "models" / "made-told-1", tmp_path / "other")
    (other / "tagger.onnx").write_bytes(b"another")
    with pytest.raises(InputError, match=r"not of the tagger\.onnx beside it"):
        Generator(other)
    shutil.copy(folder / "models" / "made-told-1" / "tagger.onnx", other)
    shutil.copy(other / "tagger.onnx", other / "generator.onnx")
    with pytest.raises(InputError, match="no generator of this version"):
        Generator(other)
