from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hepdecorr.card import METADATA_KEY, Card
from hepdecorr.errors import InputError
from hepdecorr.learning import Data, Play, export, methods
from hepdecorr.learning.methods import Excised, Method, Tagger
from hepdecorr.learning.methods.drawing import Drawing
from hepdecorr.learning.methods.judging import Judge, auc
from hepdecorr.learning.terms import Adversary
from hepdecorr.learning.terms.entropy import mutual_information

FEATURES = ["leaky", "clean", "noise"]
LEAST_AUC = {"plain": 0.80, "disco": 0.68, "pivot": 0.68, "excised": 0.66, "double": 0.66, "anomaly": 0.5}


def scores(method: Method, data: Data) -> tuple[float, float]:
    b = data.validation.all
    with torch.no_grad():
        logit = method.logit(b.x)
    own = b.y == 0
    return auc(logit, b), mutual_information(logit[own], b.z[own, 0], b.w[own])


def test_every_method_is_tried(learned) -> None:
    from_specs = {"plain": "Tagger", "disco": "Tagger", "pivot": "Tagger", "excised": "Excised"}
    from_specs["anomaly"] = "Anomaly"
    from_specs |= {"double": "DoubleDisCo"}
    from_specs["jets"] = "JetVAE"  # in test_jet_vae.py, on constituents
    from_specs |= {"groups": "GroupVAE", "runs": "Contextual"}  # in test_groups.py, on groups of events
    assert set(from_specs.values()) == set(methods.__all__)


def test_learns_and_decorrelates(learned, toy: Data) -> None:
    name, method, history = learned
    separation, information = scores(method, toy)
    assert separation > LEAST_AUC[name]
    if name == "plain":
        assert information > 0.1
    else:
        assert information < 0.03
    for stage in history:
        lengths = {len(curve) for curve in stage["curves"].values()}
        assert lengths == {len(stage["complaints"])}
        assert 1 <= stage["kept"] <= len(stage["complaints"])


def test_scores_lie_between_0_and_1(learned) -> None:
    _, method, _ = learned
    x = 1e4 * torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        score = method(x)
        assert score.shape == (200,)
        assert ((score >= 0) & (score <= 1)).all()
        assert method(x[:0]).shape == (0,)
        assert torch.allclose(torch.cat([method(x[:70]), method(x[70:])]), score, atol=1e-6)
        assert torch.allclose(method.logit(x).sigmoid(), score)


def test_saved_and_loaded_methods_are_equal(learned, build, tmp_path: Path, toy: Data) -> None:
    name, method, _ = learned
    torch.save(method.state_dict(), tmp_path / "state.pt")
    twin = build(name).eval()
    twin.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    x = toy.validation.all.x
    with torch.no_grad():
        assert torch.equal(twin(x), method(x))


def test_onnx_gives_what_torch_gives(learned, card: Card, tmp_path: Path, toy: Data) -> None:
    name, method, _ = learned
    x = toy.validation.all.x[:500]
    folder = export(method, card=card, folder=tmp_path / "models" / name, sample=x)
    assert sorted(p.name for p in folder.iterdir()) == ["card.yaml", "tagger.onnx"]
    assert [p.name for p in folder.parent.iterdir()] == [name]
    assert b".py" not in (folder / "tagger.onnx").read_bytes()  # no paths of the machine that trained
    session = onnxruntime.InferenceSession(folder / "tagger.onnx", providers=["CPUExecutionProvider"])
    known = session.get_modelmeta().custom_metadata_map[METADATA_KEY]
    assert Card.from_json(known, source=str(folder)) == card
    assert [i.name for i in session.get_inputs()] == ["features"]
    for rows in (1, 2, 500):
        score, logit = session.run(["score", "logit"], {"features": x[:rows].numpy()})
        with torch.no_grad():
            assert np.allclose(logit, method.logit(x[:rows]), rtol=1e-5, atol=1e-5)
            assert np.allclose(score, method(x[:rows]), atol=1e-6)
        assert score.shape == logit.shape == (rows,)
    assert onnx.load(folder / "tagger.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_param
    # Over an older export, nothing of which stays.
    (folder / "stale").touch()
    export(method, card=card, folder=folder, sample=x)
    assert sorted(p.name for p in folder.iterdir()) == ["card.yaml", "tagger.onnx"]


def test_the_same_seed_gives_the_same_weights(build, small: Data) -> None:
    def trained() -> dict[str, torch.Tensor]:
        torch.manual_seed(4)
        method = build("pivot")
        method.recipe = type(method.recipe)(epochs=2, batch=300)
        method.learn(small, Play(seed=4))
        return method.state_dict()

    one, two = trained(), trained()
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_each_player_moves_only_its_own_parameters(build, small: Data) -> None:
    for name in ("pivot", "excised"):
        method = build(name)

        def play(players, data, recipe, *, method=method, **_):
            every = dict(method.named_parameters())
            for player in players.values():
                own = {id(p) for p in player.module.parameters()}
                before = {k: v.detach().clone() for k, v in every.items()}
                Play()({"alone": player}, data, recipe, stage="s")
                for key, value in every.items():
                    moved = not torch.equal(before[key], value)
                    assert not moved or id(value) in own, key

        play.device, play.generator, play.passed = torch.device("cpu"), torch.Generator(), 1.0
        if name == "excised":
            method.excision.found = 0.0
        method.learn(small, play)


def test_sensitive_latents_have_no_say(excised) -> None:
    method, history = excised
    assert [s["stage"] for s in history] == ["representation", "tagger"]
    assert method.excision.keep.tolist()[0] == 0
    x = torch.randn(50, 3)
    with torch.no_grad():
        mean = method.representation.mean(x)
        assert mean[:, 0].std() > 0.1
        assert torch.equal(method.logit(x), method.network(method.excision.keep * mean).squeeze(-1))


def test_a_representation_that_is_all_nuisance_is_refused(toy: Data) -> None:
    method = Excised(features=FEATURES, nuisances=["mass"], representation={"latents": 4, "hidden": [4]})
    method.representation.mean = lambda x: x[:, :1].expand(-1, 5)
    with pytest.raises(InputError, match="every latent knows the nuisance"):
        method.excision.fit(method.representation, toy.validation.all)


def test_the_judge_prices_the_dependence_and_sees_a_lost_adversary(toy: Data) -> None:
    terms = [{"type": "GMM", "nuisance": "mass", "strength": 5}]
    method = Tagger(features=FEATURES, nuisances=["mass"], terms=terms)
    term = method.terms["gmm_mass"]
    assert isinstance(term, Adversary)
    term.fit(toy.train.all)
    blind = Judge(lambda x: x[:, 1], toy.validation, terms={"gmm_mass": term})
    leaky = Judge(lambda x: x[:, 0], toy.validation, terms={"gmm_mass": term})
    floor = 1.4189
    with torch.no_grad():
        good = blind({"gmm_mass/chase": floor})
        assert good.complaint == ""
        assert good.criterion == pytest.approx(good.figures["classify"], abs=0.05)
        bad = leaky({"gmm_mass/chase": floor})  # the adversary has seen nothing, but there is much to see
        assert "has found 0.000 of" in bad.complaint
        assert bad.criterion > bad.figures["classify"] + 1
        assert "behind a blind guess" in blind({"gmm_mass/chase": floor + 0.5}).complaint
        random = Judge(lambda x: x[:, 2], toy.validation, terms={})
        assert "separates no more" in random({}).complaint


def test_auc_is_that_of_scikit_learn(toy: Data) -> None:
    from sklearn.metrics import roc_auc_score

    b = toy.validation.all
    logit = b.x[:, 0].round(decimals=1)  # with ties
    w = torch.rand(len(b.y), generator=torch.Generator().manual_seed(1))
    ours = auc(logit, b._replace(w=w))
    assert ours == pytest.approx(roc_auc_score(b.y, logit, sample_weight=w), abs=1e-6)


def test_a_method_that_does_not_survive_the_export_is_not_written(card: Card, tmp_path: Path) -> None:
    class Fickle(Method):
        calls = 0

        def learn(self, data: Data, play: Play) -> None: ...

        def logit(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return x.sum(1) + float(self.calls > 1)

    with pytest.raises(InputError, match=r"ONNX and torch differ by .* nothing was written"):
        export(Fickle(), card=card, folder=tmp_path / "fickle", sample=torch.randn(5, 3))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="give some events"):
        export(Fickle(), card=card, folder=tmp_path / "fickle", sample=torch.randn(0, 3))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"training": {"epoch": 3}}, "method: training: there is no 'epoch'; did you mean 'epochs'"),
        ({"terms": [{"type": "Disco", "nuisance": "mass"}]}, "did you mean 'DisCo'"),
        ({"network": {"type": "MPL"}}, "did you mean 'MLP'"),
    ],
)
def test_faults_in_the_yaml_are_named(spec: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tagger(features=FEATURES, nuisances=["mass"], **spec)


def test_several_terms_on_one_nuisance_have_names_of_their_own() -> None:
    term = {"type": "DisCo", "nuisance": "mass"}
    method = Tagger(features=FEATURES, nuisances=["mass"], terms=[term, term, term])
    assert list(method.terms) == ["disco_mass", "disco_mass_2", "disco_mass_3"]


def test_drawn_background_comes_from_the_tail(toy: Data) -> None:
    generator = torch.Generator().manual_seed(1)
    everything = toy.train.all
    among = everything.take(everything.y == 0)
    drawing = Drawing(among, lambda x: x[:, 0], rows=400, tail=0.01, refresh=5, generator=generator)
    drawn = drawing.batch(0)
    background = toy.train.all.take(toy.train.all.y == 0).x[:, 0]
    assert drawn.y.sum() == 0
    assert float(drawn.w.sum()) == 400
    assert len(drawn.x.unique(dim=0)) == len(drawn.x)
    # Each decade of rejection has the same share: half of the draws lie above about 90 %.
    above = float(((drawn.x[:, 0] > background.quantile(0.9)) * drawn.w).sum() / drawn.w.sum())
    assert above == pytest.approx(math.log(0.11 / 0.01) / math.log(1.01 / 0.01), abs=0.02)
    drawing._logit = lambda x: -x[:, 0]
    assert float(drawing.batch(4).x[:, 0].median()) > float(background.median())
    assert float(drawing.batch(5).x[:, 0].median()) < float(background.median())


def test_disco_on_drawn_background_decorrelates(toy: Data) -> None:
    term = {"type": "DisCo", "nuisance": "mass", "strength": 10, "draw": 400, "tail": 0.02, "unbiased": True}
    training = {"epochs": 8, "batch": 512, "lr": 5e-3, "average": 0.9}
    torch.manual_seed(1)
    network = {"type": "MLP", "hidden": [24, 24]}
    method = Tagger(features=FEATURES, nuisances=["mass"], terms=[term], training=training, network=network)
    method.learn(toy, Play(seed=1))
    separation, information = scores(method.eval(), toy)
    assert separation > 0.68
    assert information < 0.03


def test_a_term_of_ones_own(tmp_path: Path, small: Data) -> None:
    (tmp_path / "my_term.py").write_text(
        "from hepdecorr.learning.terms import Term\n"
        "class Slope(Term):\n"
        "    def price(self, logit, b):\n"
        "        return ((b.z[:, self.column] - b.z[:, self.column].mean()) * logit).mean() ** 2\n"
    )
    terms = [{"type": "my_term.py:Slope", "nuisance": "mass", "strength": 2}]
    training = {"epochs": 1, "batch": 300}
    method = Tagger(features=FEATURES, nuisances=["mass"], terms=terms, training=training, base=tmp_path)
    play = Play()
    method.learn(small, play)
    assert "tagger/slope_mass" in play.history[0]["curves"]
