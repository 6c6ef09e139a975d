"""Which further scores a config asks for, and which its taggers have."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from hepdecorr.catalogue import load_file
from hepdecorr.cli import further
from hepdecorr.cli.scores import wanted
from hepdecorr.cli.steps import _ROWS, Analysis
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.config import Config, load
from hepdecorr.errors import InputError

TEXT = """
name: own
samples:
  datasets:
    b: {files: b.root, label: background}
    s: {files: s.root, label: signal}
nuisances: {m_bc: {low: 0, high: 1}}
features: [r2]
taggers:
  vae: {type: JetVAE}
  plain: {type: Tagger}
scores: SCORES
output: out
processors: {table: "PATH/training_table.py:TrainingTable", evaluate: "PATH/sculpting.py:Sculpting"}
"""
PROCESSORS = Path(__file__).parents[2] / "processors"


def config(folder: Path, scores: str) -> Config:
    path = folder / "own.yaml"
    path.write_text(TEXT.replace("SCORES", scores).replace("PATH", str(PROCESSORS)))
    return load(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    making = load_file(Path(__file__).parents[1] / "columnar" / "jets" / "making_taggers.py")
    found = {}
    for name, outputs in (("vae-1", making.OUTPUTS), ("vae-2", making.OUTPUTS), ("plain-1", ())):
        found[name] = tmp_path_factory.mktemp(name)
        card = making.card(**({"outputs": outputs} if outputs else {}))
        (found[name] / "tagger.onnx").write_bytes(making.model(of=card))
    return found


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ("{vae: [kl, emd]}", {"vae-1": ["kl", "emd"], "vae-2": ["kl", "emd"]}),
        ("[emd_plane, kl, kl]", {"vae-1": ["emd_plane", "kl"], "vae-2": ["emd_plane", "kl"]}),
        ("{}", {}),
    ],
)
def test_each_tagger_is_asked_for_what_it_has(
    models: dict[str, Path], tmp_path: Path, scores: str, expected: dict[str, list[str]]
) -> None:
    assert wanted(config(tmp_path, scores), models) == expected


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ("{vae: [mse]}", r"own\.yaml:12: scores\.vae: no tagger gives a score 'mse'; known are emd"),
        ("{plain: [kl]}", r"own\.yaml:12: scores\.plain: .* 'kl'; none gives any beside its own"),
        ("[kl, edm]", r"own\.yaml:12: scores: no tagger gives a score 'edm'; did you mean 'emd'"),
    ],
)
def test_what_nobody_gives(models: dict[str, Path], tmp_path: Path, scores: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wanted(config(tmp_path, scores), models)


def test_a_list_is_of_all_taggers_when_some_are_left_out(models: dict[str, Path], tmp_path: Path) -> None:
    assert wanted(config(tmp_path, "[kl]"), {"plain-1": models["plain-1"]}) == {}


def test_a_tagger_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"own\.yaml:12: scores: no tagger 'vea'; did you mean 'vae'"):
        config(tmp_path, "{vea: [kl]}")


def test_results_of_a_config_without_the_key_stay_good(tmp_path: Path) -> None:
    """What is asked of an evaluation is the same as before there was such a key."""
    asked = {}
    for scores in ("{}", "[kl]", "[emd]"):
        own = config(tmp_path, scores)
        asked[scores] = Analysis(own, console=Console(quiet=True), only=[])._asked_of_evaluation()
    assert asked["{}"] == config(tmp_path, "{}").digest(*_ROWS, "split", "shifts")
    assert len(set(asked.values())) == 3


def test_a_further_score_has_its_own_cuts(models: dict[str, Path]) -> None:
    """In report and comparison; one without cuts has not those of the tagger's own score."""
    card = OnnxTagger(models["vae-1"]).card
    point = card.working_points[0].model_copy(update={"threshold": 7.0})
    card = card.model_copy(update={"further_points": {"kl": (point,)}})
    found = further.cards({"vae-1": card}, {"vae-1.kl": "vae-1", "vae-1.emd": "vae-1"})
    assert found["vae-1.kl"].working_points == (point,)
    assert found["vae-1.emd"].working_points == ()
    assert card.working_points != (point,)
    assert [further.tagger_of(name) for name in found] == ["vae.kl", "vae.emd"]
