"""GroupVAE and Contextual: what they learn from made groups, export, and say of faults in the YAML."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from scipy import stats

from hepdecorr.card import Card, Feature, Input
from hepdecorr.errors import InputError
from hepdecorr.learning import Batch, Data, Events, Play, export
from hepdecorr.learning.grouping import Posterior
from hepdecorr.learning.groups.posteriors import nats
from hepdecorr.learning.methods import Contextual, GroupVAE, Tagger
from hepdecorr.learning.methods.judging import auc

LINEAR = """
import torch
from hepdecorr.learning.groups import Decoder

class Linear(Decoder):
    raw, noise = True, 0.6

    def __init__(self, *, features: int, group: int, instance: int) -> None:
        super().__init__()

    def forward(self, group, instance):
        return 1.5 * group + 0.8 * instance
"""


def linear_groups(groups: int, *, seed: int) -> Events:
    draw = np.random.default_rng(seed)
    u, v, noise = draw.normal(size=groups), draw.normal(size=8 * groups), draw.normal(size=8 * groups)
    x = 1.5 * u.repeat(8) + 0.8 * v + 0.6 * noise
    x = torch.tensor(x, dtype=torch.float32)[:, None]
    group = torch.arange(groups).repeat_interleave(8)
    return Events(x, torch.zeros(len(x)), group=group, whole=True, alone=True)


def test_the_elbo_reaches_the_likelihood_only_where_the_instance_knows_the_group(tmp_path: Path) -> None:
    """x_k = 1.5 u + 0.8 v_k + 0.6 eps: exactly q(u|x) prod q(v_k|x_k, u), all linear (section 3)."""
    (tmp_path / "mine.py").write_text(LINEAR)
    data = Data(linear_groups(1500, seed=1), linear_groups(1500, seed=2))
    covariance = 1.5**2 * np.ones((8, 8)) + (0.8**2 + 0.6**2) * np.eye(8)
    x = data.validation.all.x.double().numpy().reshape(-1, 8)
    exact = stats.multivariate_normal(cov=covariance).logpdf(x).mean() / 8
    found = {}
    for conditional in (True, False):
        torch.manual_seed(1)
        method = GroupVAE(
            features=["x0"],
            latents={"group": 1, "instance": 1},
            decoder=f"{tmp_path}/mine.py:Linear",
            group_encoder={"type": "DeepSets", "hidden": [], "summands": 4},
            instance_encoder={"conditional": conditional, "hidden": []},
            training={"epochs": 20, "batch": 1024, "lr": 2e-2},
        )
        method.learn(data, Play(seed=1))
        found[conditional] = method.measured["elbo"]
    assert found[True] == pytest.approx(exact, abs=0.02)
    # Of independent posteriors the best falls short by the information between u and v given x.
    assert found[False] < exact - 0.2


def shifted_groups(groups: int, *, seed: int, size: int = 60) -> Events:
    """Two classes, 2 deviations of `moved` apart within a group; all of a group share a shift as wide."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(size // 2, size * 3 // 2, groups)
    group = np.repeat(np.arange(groups), sizes)
    y = draw.random(len(group)) < 0.4
    shift = 2.0 * draw.normal(size=groups)[group]
    moved = shift + 2.0 * y + draw.normal(size=len(group))
    other = 0.5 * y + draw.normal(size=len(group))
    x = torch.tensor(np.stack([other, moved], 1), dtype=torch.float32)
    z = torch.tensor(shift, dtype=torch.float32)[:, None]
    names = {"features": ["other", "moved"], "nuisances": ["shift"]}
    return Events(x, torch.tensor(y), z, group=torch.tensor(group), whole=True, **names)


CONTEXTUAL: dict[str, Any] = {
    "features": ["other", "moved"],
    "nuisances": ["shift"],
    "representation": {
        "of": ["moved"],
        "latents": {"group": 1, "instance": 1},
        "variance": 0.01,
        "group_encoder": {"type": "DeepSets", "pool": "mean"},
        "training": {"epochs": 10, "batch": 2048},
    },
    "network": {"type": "MLP", "hidden": [16]},
    "training": {"epochs": 6, "batch": 1024, "lr": 5e-3},
}


@pytest.fixture(scope="module")
def contextual() -> tuple[Contextual, list, Data]:
    data = Data(shifted_groups(250, seed=1), shifted_groups(120, seed=2))
    torch.manual_seed(1)
    method, play = Contextual(**CONTEXTUAL), Play(seed=1)
    method.learn(data, play)
    return method.eval(), play.history, data


def rates(logit: torch.Tensor, b: Batch) -> torch.Tensor:
    """Share of the background of each group that passes a cut at a fifth of all background."""
    own = b.y == 0
    cut = logit[own].quantile(0.8)
    passed = torch.zeros(int(b.group.max()) + 1).index_add(0, b.group[own], (logit[own] > cut).float())
    return passed / torch.bincount(b.group[own])


def test_a_tagger_that_knows_its_group_does_not_drift_with_it(contextual) -> None:
    method, history, data = contextual
    b = data.validation.all
    torch.manual_seed(1)
    plain = Tagger(**{key: CONTEXTUAL[key] for key in ("features", "nuisances", "network", "training")})
    plain.learn(data, Play(seed=1))
    with torch.no_grad():
        rows = method.rows(b)
        found, known = method.logit(rows), plain.logit(b.x)
    assert auc(found, b) > auc(known, b) + 0.1
    # 36 background events of a group: a share of 0.2 has a deviation of 0.067 by chance.
    assert float(rates(known, b).std()) > 0.25
    assert float(rates(found, b).std()) < 0.13
    code, first = rows[:, 2], torch.bincount(b.group).cumsum(0) - 1
    assert abs(np.corrcoef(code[first], b.z[first, 0])[0, 1]) > 0.95
    assert [stage["stage"] for stage in history] == ["groups", "tagger"]
    assert {"vae/kl_group", "vae/kl_instance", "vae/reconstruct"} <= set(history[0]["curves"])


def test_a_prior_for_each_class_lies_where_the_codes_of_its_events_are() -> None:
    data = Data(shifted_groups(150, seed=1), shifted_groups(40, seed=2))
    about = {"latents": {"group": 1, "instance": 2}, "variance": 0.02}
    about |= {"group_encoder": {"type": "DeepSets", "pool": "mean"}}
    torch.manual_seed(1)
    method = GroupVAE(
        features=["other", "moved"], instance_prior="class", training={"epochs": 8, "batch": 1000}, **about
    )
    method.learn(data, Play(seed=1))
    b, prior = data.train.all, method.representation.net.prior
    assert prior is not None
    with torch.no_grad():
        v, log_var = method.further(method.rows(b))
        p, y = Posterior(v, log_var), b.y
        signal = y == 1
        assert float(prior.nats(p, y)[signal].sum()) < 0.9 * float(nats(p)[signal].sum())
    torch.testing.assert_close(prior.nats(p, y)[~signal], nats(p)[~signal])
    assert float(prior.mean @ v[signal].mean(0)) > 0.1
    assert method.measured["instance_prior"] == "class"


def test_a_classifier_may_be_told_the_code_of_the_group() -> None:
    data = Data(shifted_groups(60, seed=1), shifted_groups(40, seed=2))
    spec = CONTEXTUAL["representation"] | {"training": {"epochs": 1}}
    method = Contextual(**CONTEXTUAL | {"representation": spec, "training": {"epochs": 1}}, told=True)
    method.learn(data, Play(seed=1))
    rows = method.rows(data.validation.all)
    kept = method.kept(rows)
    assert method.names == ["instance_0", "other", "group_0"]
    torch.testing.assert_close(kept[:, 2], rows[:, 2])
    torch.testing.assert_close(method.logit(rows), method.classifier.logit(kept))


def test_an_answer_depends_on_other_events_only_through_the_group(contextual) -> None:
    method, _, data = contextual
    b = data.validation.all
    with torch.no_grad():
        whole = method.rows(b)
        torch.testing.assert_close(method.rows(b.take(b.group < 3)), whole[b.group < 3])
        logit, mean, log_var = method.answers(whole)
        torch.testing.assert_close(method.logit(whole[5:6]), logit[5:6], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(method.further(whole), (mean, log_var))
        # The features that are left go to the classifier as they are.
        torch.testing.assert_close(method.kept(whole), torch.cat([mean, b.x[:, :1]], 1))
    assert mean.shape == log_var.shape == (len(b.y), 1)


def test_the_graphs_give_the_codes_of_training_and_the_features_back(
    contextual, card: Card, tmp_path: Path
) -> None:
    method, _, data = contextual
    b = data.validation.all.take(data.validation.all.group < 20)
    inputs = (Input(features=(Feature(name="other"), Feature(name="moved"))),)
    card = card.model_copy(update={"inputs": inputs, "outputs": ("score", "logit", *method.beside)})
    folder = export(method, card=card, folder=tmp_path / "made", sample=b.x, group=b.group, of=["run"])
    run = {one.stem: onnxruntime.InferenceSession(one) for one in folder.glob("*.onnx")}
    assert set(run) == {"tagger", "members", "group", "decoder"}
    (summands,) = run["members"].run(["summands"], {"features": b.x.numpy()})
    counts = np.bincount(b.group).astype(np.float32)
    sums = np.stack([np.bincount(b.group, column) for column in summands.T], 1).astype(np.float32)
    code = run["group"].run(["mean"], {"sums": sums, "counts": counts})[0][b.group]
    given = {"features": b.x.numpy(), "context": code}
    logit, instance = run["tagger"].run(["logit", "instance"], given)
    with torch.no_grad():
        rows = method.rows(b)
        np.testing.assert_allclose(code, rows[:, 2:], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(logit, method.logit(rows), rtol=1e-3, atol=1e-4)
    # A small variance: what is decoded is what went in.
    (back,) = run["decoder"].run(["features"], {"group": code, "instance": instance})
    missed = back[:, 0] - b.x[:, 1].numpy()
    assert np.sqrt(np.mean(missed**2)) < 1.5 * math.sqrt(method.measured["variance"][0])


CLASSES = ("background", "signal")
OWN_BATCHES = {"type": "LeaveOneOut", "batch": 100, "steps": 2}
TOGETHER = {"type": "LeaveOneOut", "update": "reversal"}
EXAMS = {"features": ["score"], "decoder": "ExamScores"}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"latents": {"group": 2}}, "latents must be as"),
        ({"latents": {"group": 2, "instance": 0}}, "latents: instance must be a whole number"),
        ({"group_encoder": "DeepSet"}, "group_encoder: no 'DeepSet'; did you mean 'DeepSets'"),
        ({"group_encoder": "Nemeth"}, "group_encoder: no 'Nemeth'; known are DeepSets, Mean, Product"),
        ({"group_encoder": {"type": "DeepSets", "pool": "max"}}, "group_encoder: DeepSets: no pool 'max'"),
        ({"group_encoder": {"type": "DeepSets", "hiden": [4]}}, "takes no 'hiden'; did you mean 'hidden'"),
        ({"group_encoder": {"type": "DeepSets", "hidden": 4}}, "group_encoder: widths of layers"),
        ({"group_encoder": {"type": "Product", "precision": "sigma"}}, "no precision 'sigma'"),
        ({"group_encoder": {"type": "Product", "prior": 1}}, "prior is true or false"),
        ({"group_encoder": ["Mean"]}, "group_encoder must be as"),
        ({"instance_encoder": {"conditional": "no"}}, "conditional is true or false, not 'no'"),
        ({"instance_encoder": {"sees": "all"}}, "instance_encoder: .*no sees 'all'"),
        ({"instance_encoder": "conditional"}, "instance_encoder must be as"),
        ({"decoder": {"type": "ExamScores", "noise": 0}}, "decoder: ExamScores: noise must be"),
        ({"latents": {"group": 1, "instance": 1}}, "decoder: ExamScores makes one feature of latents"),
        ({"variance": 0.1}, "variance: the decoder has noise of its own"),
        ({"decoder": "Network", "variance": "learnt"}, "variance must be a number above 0, or 'learned'"),
        ({"regulariser": "LeaveOut"}, "regulariser: no 'LeaveOut'; did you mean 'LeaveOneOut'"),
        ({"regulariser": {"type": "LeaveOneOut", "strength": -1}}, "regulariser: strength is -1"),
        ({"regulariser": {"type": "Nemeth", "strength": "big"}}, "Nemeth: strength must be a number"),
        ({"regulariser": {"type": "Nemeth", "bound": "max"}}, "Nemeth: no bound 'max'"),
        ({"regulariser": {"type": "LeaveOneOut", "divisor": "K"}}, "no divisor 'K'"),
        ({"regulariser": {**TOGETHER, "steps": 2}}, "with update: reversal the critic moves once"),
        ({"regulariser": {"type": "Nemeth", "steps": 0}}, "steps must be a whole number of at least 1"),
        ({"regulariser": {"type": "Nemeth", "moves": {"lr": "x"}}}, "Nemeth moves: lr must be a number"),
        ({"instance_prior": "classes"}, "instance_prior: no 'classes'; did you mean 'class'"),
        ({"of": ["scores"]}, "of: no feature 'scores'; did you mean 'score'"),
        ({"of": ["score", "score"]}, "of: a feature stands there twice"),
        ({"training": {"epoch": 3}}, "method: training: there is no 'epoch'"),
        ({"constituents": ["pt"]}, "write 'constituents: \\[\\]'"),
    ],
)
def test_faults_in_the_yaml_name_the_key(block: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GroupVAE(**EXAMS | block)


def test_faults_in_the_block_of_a_representation_are_named() -> None:
    with pytest.raises(InputError, match=r"representation: .*takes no 'latent'; did you mean 'latents'"):
        Contextual(features=["x"], representation={"latent": 3})
    with pytest.raises(InputError, match="no 'features'; features to represent stand in 'of'"):
        Contextual(features=["x"], representation={"features": ["x"]})
    with pytest.raises(InputError, match="told is true or false, not 'group'"):
        Contextual(features=["x"], told="group")
    with pytest.raises(InputError, match="representation: training: there is no 'epoch'"):
        Contextual(features=["x"], representation={"training": {"epoch": 3}})


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"group": torch.ones(50), "whole": True}, "all events to train on are of one group"),
        ({}, "whole=True"),
    ],
)
def test_events_without_several_whole_groups_are_refused(about: dict, message: str) -> None:
    events = Events(torch.randn(50, 1), torch.zeros(50), alone=True, **about)
    with pytest.raises(InputError, match=message):
        GroupVAE(features=["x"]).learn(Data(events, events), Play(seed=1))


@pytest.mark.parametrize("regulariser", ["none", "Nemeth", OWN_BATCHES, TOGETHER])
@pytest.mark.parametrize("encoder", ["DeepSets", "Mean", {"type": "Product", "prior": True}])
def test_every_piece_learns_and_players_move_only_themselves(encoder, regulariser) -> None:
    data = Data(shifted_groups(12, seed=1), shifted_groups(8, seed=2))

    def trained(strength: float, lr: float) -> GroupVAE:
        block = {"type": regulariser} if isinstance(regulariser, str) else regulariser
        block = "none" if regulariser == "none" else {**block, "strength": strength, "moves": {"lr": lr}}
        torch.manual_seed(1)
        method = GroupVAE(
            features=["other", "moved"],
            group_encoder=encoder,
            regulariser=block,
            variance="learned",
            training={"epochs": 2, "batch": 200},
        )
        method.learn(data, Play(seed=1))
        return method

    paying = trained(1.0, 1e-3).representation
    assert all(torch.isfinite(p).all() for p in paying.state_dict().values())
    assert not torch.allclose(paying.net.log_variance, torch.tensor(0.1).log(), atol=1e-4)
    if regulariser == "none":
        return
    # Without a price the encoders move as if there were no critic, and the critic by itself.
    free, still = (trained(0.0, lr).representation for lr in (1e-3, 1e-9))
    nets = [dict(one.net.named_parameters()) for one in (paying, free, still)]
    for name, parameter in nets[1].items():
        torch.testing.assert_close(parameter, nets[2][name])
    assert any(not torch.equal(nets[0][name], parameter) for name, parameter in nets[1].items())
    assert not torch.allclose(*(one.regulariser.of_both[0].weight for one in (free, still)))


def test_with_a_critic_the_last_epoch_is_kept_unless_told() -> None:
    for regulariser, training, keep in (
        ("none", None, "best"),
        ("Nemeth", None, "last"),
        ("Nemeth", {"keep": "best"}, "best"),
    ):
        made = GroupVAE(features=["x"], regulariser=regulariser, training=training)
        assert made.representation.recipe.keep == keep


def test_groups_of_one_event_are_learned_from(caplog) -> None:
    x = torch.randn(300, 1, generator=torch.Generator().manual_seed(1))
    group = torch.cat([torch.arange(100), torch.full((200,), 100)])
    events = Events(x, torch.zeros(300), group=group, whole=True, alone=True, features=["x"])
    torch.manual_seed(1)
    method = GroupVAE(features=["x"], regulariser="LeaveOneOut", training={"epochs": 2, "batch": 300})
    method.learn(Data(events, events), Play(seed=1))
    assert method.measured["group_sizes"] == {"smallest": 1, "median": 1, "largest": 200}
    assert math.isfinite(method.measured["elbo"])
    assert "costs nothing" in caplog.text


def test_two_processes_learn_one_representation(make_table) -> None:
    """In a process of its own, since it forks; what a card keeps comes back from the one that learned."""
    table = make_table(group=np.random.default_rng(2).integers(0, 60, 2400))
    code = f"""
from hepdecorr.learning import train
from hepdecorr.table import Split, Table
if __name__ == "__main__":
    spec = {{"type": "GroupVAE", "regulariser": "LeaveOneOut", "training": {{"epochs": 2, "batch": 400}}}}
    trained = train(spec, table=Table.open({str(table.folder)!r}), split=Split(10, (0, 1), (2,)), seed=1,
                    device="cpu", devices=2)
    measured = trained.method.measured
    print("SIZES", measured["group_sizes"]["median"], trained.method.grouping().counts[1], measured["elbo"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told, exported, elbo = done.stdout.split("SIZES")[1].split()
    assert 30 < int(told) < 50
    assert int(told) == int(exported)
    assert math.isfinite(float(elbo))


def test_terms_may_free_each_class_of_the_code_of_its_group() -> None:
    data = Data(shifted_groups(120, seed=1), shifted_groups(60, seed=2))
    # Codes of events that do not know their group move with it, and so does the classifier.
    spec = CONTEXTUAL["representation"] | {"training": {"epochs": 6}}
    spec |= {"instance_encoder": {"conditional": False}}
    terms = [{"type": "DisCo", "nuisance": "group_0", "given": one, "strength": 20} for one in CLASSES]
    found = {}
    for name, own in (("free", terms), ("bound", [])):
        torch.manual_seed(1)
        method = Contextual(**CONTEXTUAL | {"representation": spec}, terms=own)
        method.learn(data, Play(seed=1))
        b = data.validation.all
        with torch.no_grad():
            rows = method.rows(b)
            logit, code = method.logit(rows), rows[:, 2]
        background = b.y == 0
        found[name] = abs(float(torch.corrcoef(torch.stack([logit, code])[:, background])[0, 1]))
        assert method.freed == (["group_0"] if own else [])
    assert found["free"] < 0.15 < 0.4 < found["bound"], found
    assert data.train.nuisances == ["shift"]


def test_events_get_further_nuisances_beside_their_own() -> None:
    events = shifted_groups(20, seed=3)
    more = events.with_nuisances(torch.arange(len(events))[:, None], names=["number"])
    assert more.nuisances == ["shift", "number"]
    torch.testing.assert_close(more.all.z[:, :1], events.all.z)
    torch.testing.assert_close(more.all.z[:, 1], torch.arange(len(events)).float())
    for name in ("x", "y", "w", "group", "r"):
        torch.testing.assert_close(getattr(more.all, name), getattr(events.all, name))
