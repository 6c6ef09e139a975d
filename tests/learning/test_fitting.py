from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hepdecorr.card import Card, Nuisance
from hepdecorr.errors import InputError
from hepdecorr.learning import Layout, Streamed, finish, train
from hepdecorr.learning.fitting import load, working_points
from hepdecorr.table import Split

SPLIT = Split(10, (0, 1), (2,))
SPEC = {
    "type": "Tagger",
    "network": {"type": "MLP", "hidden": [8]},
    "training": {"epochs": 6, "batch": 200, "lr": 0.02, "average": 0.0},
    "terms": [{"type": "DisCo", "nuisance": "mass"}],
}


def test_from_table_to_tagger(make_table, tmp_path: Path) -> None:
    table = make_table()
    seen = []
    before = torch.get_rng_state()
    trained = train(
        SPEC, table=table, split=SPLIT, seed=3, device="cpu", progress=lambda *told: seen.append(told)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert [told[:3] for told in seen] == [("tagger", k + 1, 6) for k in range(6)]
    assert json.loads(json.dumps(trained.history)) == trained.history
    folder = finish(
        trained,
        name="disco",
        folder=tmp_path / "models" / "disco",
        table=table,
        nuisances=[Nuisance(name="mass", low=-3, high=3)],
        config_hash="abc",
        rejections=(0.5, 0.9, 0.9999),
        conventions={"schema": "made"},
    )
    import onnx

    model = onnx.load(folder / "tagger.onnx")
    card = Card.from_json({p.key: p.value for p in model.metadata_props}["hepdecorr.card"], source="x")
    assert card.feature_names == ["leaky", "clean", "noise"]
    assert [p.rejection for p in card.working_points] == [0.5, 0.9]  # too few events for 0.9999
    assert card.working_points[1].background_efficiency == pytest.approx(0.1, abs=0.01)
    assert card.table_fingerprint == table.fingerprint
    assert card.method == SPEC
    assert card.seed == 3
    assert card.versions["torch"]
    assert card.measured["validation_auc"] > 0.6
    assert card.training["stages"][0]["epochs"] == 6
    assert card.training["stages"][0]["kept"] > 1
    assert card.training["stable"]


@pytest.mark.parametrize("stream", [False, True])
def test_test_events_are_kept_from_the_training(make_table, stream: bool) -> None:
    table = make_table()
    fold = table.read(["fold", "leaky"])
    data = load(table, Layout.of(table), split=SPLIT, stream=stream)
    for events, folds in ((data.train, range(3, 10)), (data.validation, (0, 1))):
        found = torch.cat([b.x[:, 0] for b in events.batches(500, shuffle=False)])
        wanted = fold["leaky"][np.isin(fold["fold"], list(folds))]
        np.testing.assert_allclose(np.sort(found.numpy()), np.sort(wanted), rtol=1e-6)


def test_the_seed_decides(make_table) -> None:
    table = make_table()

    def weights(seed: int, **change: object) -> torch.Tensor:
        spec = {**SPEC, "training": {"epochs": 1, "batch": 400}}
        trained = train(spec, table=table, split=SPLIT, seed=seed, device="cpu", **change)
        return trained.method.network.net[0].weight

    one = weights(1)
    torch.rand(3)
    assert torch.equal(one, weights(1))
    assert not torch.equal(one, weights(2))


def test_a_choice_of_features_balance_and_streams(make_table) -> None:
    table = make_table()
    spec = {**SPEC, "features": ["clean"], "balance": True, "training": {"epochs": 1, "batch": 400}}
    trained = train(spec, table=table, split=SPLIT, seed=1, device="cpu", stream=True)
    assert isinstance(trained.data.train, Streamed)
    assert trained.data.validation.features == ["clean"]
    b = trained.data.validation.all
    assert float(b.w[b.y == 1].sum()) == pytest.approx(float(b.w[b.y == 0].sum()), rel=1e-4)


def test_a_finished_training_is_not_repeated_and_another_one_is(make_table, tmp_path: Path) -> None:
    table, told = make_table(), []
    common = {"table": table, "split": SPLIT, "device": "cpu", "folder": tmp_path / "checkpoints"}
    common["progress"] = lambda *t: told.append(t)
    first = train(SPEC, seed=1, **common)
    again = train(SPEC, seed=1, **common)
    assert len(told) == 6
    assert again.history == first.history
    key = "network.net.0.weight"
    assert torch.equal(first.method.state_dict()[key], again.method.state_dict()[key])
    train(SPEC, seed=2, **common)
    assert len(told) == 12


def test_faults_are_told(make_table) -> None:
    table = make_table()
    with pytest.raises(InputError, match="no device 'gpuu'"):
        train(SPEC, table=table, split=SPLIT, seed=1, device="gpuu")
    with pytest.raises(InputError, match="did you mean 'Tagger'"):
        train({"type": "Taggr"}, table=table, split=SPLIT, seed=1, device="cpu")
    with pytest.raises(InputError, match="no column 'pt'"):
        train({**SPEC, "features": ["pt"]}, table=table, split=SPLIT, seed=1, device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="torch sees no GPU"):
            train(SPEC, table=table, split=SPLIT, seed=1, device="cuda")


def test_two_processes_train_one_tagger(make_table) -> None:
    """In a process of its own, since it forks."""
    table = make_table()
    code = f"""
from hepdecorr.learning import train
from hepdecorr.table import Split, Table
if __name__ == "__main__":
    spec = {SPEC!r}
    trained = train(spec, table=Table.open({str(table.folder)!r}), split=Split(10, (0, 1), (2,)), seed=1,
                    device="cpu", devices=2)
    print("AUC", trained.history[0]["curves"]["valid/auc"][-1])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split("AUC")[1]) > 0.55


def test_working_points() -> None:
    draw = np.random.default_rng(1)
    logit = np.concatenate([draw.normal(size=4000), draw.normal(2, size=1000)])
    label = np.repeat([0, 1], [4000, 1000])
    (point,) = working_points(logit, label, np.ones(5000), rejections=[0.9])
    background, signal = logit[:4000], logit[4000:]
    assert (background > point.threshold).mean() == pytest.approx(0.1)
    assert point.signal_efficiency == pytest.approx((signal > point.threshold).mean())
    assert point.background_events == 4000


def test_a_rejection_of_nothing_is_no_working_point() -> None:
    logit, label = np.linspace(-1, 1, 100), np.zeros(100, dtype=np.int64)
    label[::2] = 1
    with pytest.raises(InputError, match="rejection 0; it must lie between 0 and 1"):
        working_points(logit, label, np.ones(100), rejections=[0.0])


def test_learning_leaves_coffea_alone() -> None:
    code = "import sys, hepdecorr.learning.fitting; print(bool({'coffea', 'uproot'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_graph_that_is_refused_after_an_unstable_training_says_why(
    make_table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {k: v for k, v in SPEC.items() if k != "terms"} | {"training": {"epochs": 1, "batch": 200}}
    trained = train(spec, table=(table := make_table()), split=SPLIT, seed=3, device="cpu")
    trained.history[0].update(stable=False, reason="the tagger separates no more (AUC 0.206)")
    # No graph is that exact: what a training that has run away comes to.
    monkeypatch.setattr(sys.modules["hepdecorr.learning.export"], "TOLERANCE", -1.0)
    with pytest.raises(InputError, match=r"^the tagger separates no more .*; then .*ONNX and torch differ"):
        finish(trained, name="x", folder=tmp_path / "x", table=table, nuisances=[], config_hash="abc")
    assert not (tmp_path / "x").exists()
