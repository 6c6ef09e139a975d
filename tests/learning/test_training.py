from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hepdecorr.errors import InputError
from hepdecorr.learning import Batch, Data, Play, Player, Recipe, Verdict
from hepdecorr.learning.checkpoints import Checkpoints
from hepdecorr.learning.moves import OPTIMIZERS, SCHEDULES, Average, Moves


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 1), nn.Linear(1, 1)


def loss_of(pair: Pair):
    """A loss through both modules, so that only `play` can keep them apart."""

    def loss(b: Batch) -> dict[str, torch.Tensor]:
        return {
            "both": ((pair.b(pair.a(b.x)).squeeze(-1) - b.y) ** 2).mean(),
            "size": pair.a.weight.abs().sum(),
        }

    return loss


def test_a_player_moves_only_its_own_parameters(small: Data) -> None:
    torch.manual_seed(0)
    pair = Pair()
    before = {k: v.clone() for k, v in pair.state_dict().items()}
    Play()({"a": Player(pair.a, loss_of(pair))}, small, Recipe(epochs=1), stage="s")
    assert all(torch.equal(before[k], v) for k, v in pair.state_dict().items() if k.startswith("b"))
    assert not torch.equal(before["a.weight"], pair.a.weight)
    assert pair.b.weight.grad is None


def test_steps_and_batches_of_its_own(small: Data) -> None:
    pair, seen = Pair(), []

    def counting(b: Batch) -> dict[str, torch.Tensor]:
        seen.append(len(b.y))
        return loss_of(pair)(b)

    players = {
        "fast": Player(pair.a, counting, steps=lambda passed: 0 if passed < 0.5 else 3, batch=50),
        "slow": Player(pair.b, loss_of(pair)),
    }
    record = Play()(players, small, Recipe(epochs=2, batch=300), stage="s")
    assert seen == [50] * 9
    assert record["curves"]["fast/both"][0] is None
    assert len(record["curves"]["fast/both"]) == len(record["curves"]["slow/both"]) == 2


def test_the_best_epoch_is_kept(small: Data) -> None:
    pair, criteria, kept = Pair(), iter([3.0, 1.0, 2.0, 5.0]), []

    def judge(latest: dict[str, float]) -> Verdict:
        assert "a/both" in latest
        kept.append(pair.a.weight.detach().clone())
        return Verdict(next(criteria), {"auc": 0.5}, "wobbles" if len(kept) == 2 else "")

    play = Play()
    record = play({"a": Player(pair.a, loss_of(pair))}, small, Recipe(epochs=4), stage="s", judge=judge)
    assert record["kept"] == 2
    assert torch.equal(pair.a.weight, kept[1])
    assert record["curves"]["valid/criterion"] == [3.0, 1.0, 2.0, 5.0]
    assert (record["stable"], record["reason"]) == (False, "wobbles")
    assert json.loads(json.dumps(play.history)) == play.history


def test_slack_keeps_the_latest_of_the_good_epochs(small: Data) -> None:
    pair, criteria = Pair(), iter([1.0, 0.5, 0.52, 0.6, 0.51, 0.52])

    def judge(latest: dict[str, float]) -> Verdict:
        value = next(criteria)
        return Verdict(value, {}, "lost" if value == 0.52 else "")

    players = {"a": Player(pair.a, loss_of(pair))}
    record = Play()(players, small, Recipe(epochs=6, slack=0.05), stage="s", judge=judge)
    assert record["kept"] == 5  # 0.52 would do as well, but for its complaint


@pytest.mark.parametrize(("settled", "kept"), [(0.0, 1), (0.5, 3), (1.0, 4)])
def test_no_epoch_is_kept_before_the_strengths_have_settled(small: Data, settled: float, kept: int) -> None:
    pair, criteria = Pair(), iter([1.0, 2.0, 3.0, 4.0])
    record = Play()(
        {"a": Player(pair.a, loss_of(pair))},
        small,
        Recipe(epochs=4),
        stage="s",
        judge=lambda latest: Verdict(next(criteria), {}),
        settled=settled,
    )
    assert record["kept"] == kept


def test_patience_ends_the_stage(small: Data) -> None:
    pair, criteria = Pair(), iter([1.0, *[2.0] * 20])
    record = Play()(
        {"a": Player(pair.a, loss_of(pair))},
        small,
        Recipe(epochs=20, patience=3),
        stage="s",
        judge=lambda latest: Verdict(next(criteria), {}),
    )
    assert len(record["complaints"]) == 4
    assert "no better criterion in 3 epochs" in record["stopped"]


def test_the_average_is_judged_and_kept(small: Data) -> None:
    pair, judged = Pair(), []

    def judge(latest: dict[str, float]) -> Verdict:
        judged.append(pair.a.weight.detach().clone())
        return Verdict(1.0, {})

    moves = Moves(average=0.99, lr=0.1, schedule="constant")
    Play()({"a": Player(pair.a, loss_of(pair), moves=moves)}, small, Recipe(epochs=1), stage="s", judge=judge)
    assert torch.equal(pair.a.weight, judged[0])


def test_average_by_hand() -> None:
    p = nn.Parameter(torch.zeros(2))
    average = Average([p], 0.9)
    p.data.fill_(1.0)
    average.update()
    assert average.weights[0].tolist() == pytest.approx([9 / 11] * 2)
    average.exchange()
    assert p.tolist() == pytest.approx([9 / 11] * 2)
    average.exchange()
    assert p.tolist() == [1, 1]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules(schedule: str) -> None:
    moves = Moves(lr=0.1, schedule=schedule, warmup=0.2, final=0.01)
    rates = [moves.rate(k / 100) for k in range(101)]
    assert max(rates) == pytest.approx(0.1)
    assert min(rates) > 0
    if schedule != "constant":
        assert rates[-1] == pytest.approx(0.001)
    if schedule == "onecycle":
        assert rates[10] == pytest.approx(0.05)


def test_steps_are_those_of_the_paper() -> None:
    """Adam from 1e-3 over 1e-4 to 1e-5, at epochs 30 and 60 of 90."""
    moves = Moves(lr=1e-3, schedule="steps", final=0.01, drops=2)
    rates = [moves.rate(epoch / 90) for epoch in (0, 29, 30, 59, 60, 89, 90)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5, 1e-5])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_go_down(optimizer: str) -> None:
    w = nn.Parameter(torch.tensor([2.0]))
    moves = Moves(optimizer=optimizer, lr=0.01)
    optimiser = moves.optimise([w])
    for _ in range(20):
        optimiser.zero_grad()
        (w**2).sum().backward()
        optimiser.step()
    assert float(w.detach()) < 1.95


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"lrr": 1}, "there is no 'lrr'; did you mean 'lr'"),
        ({"lr": "fast"}, "lr must be a number"),
        ({"schedule": "onecylce"}, "did you mean 'onecycle'"),
        ({"average": 1.5}, r"average must lie in \[0, 1\)"),
        ({"clip": True}, "clip must be of type float"),
    ],
)
def test_faults_in_moves_are_named(spec: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"training: .*{message}"):
        Moves.read(spec, where="training")


def test_yaml_numbers_that_come_as_strings() -> None:
    assert Moves.read({"lr": "1e-3", "clip": 1}, where="training") == Moves(lr=1e-3, clip=1.0)


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch": 0}, {"keep": "first"}, {"patience": -1}])
def test_faults_in_recipes_are_named(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        Recipe(**change)


def test_a_loss_that_is_not_finite_ends_the_training(small: Data) -> None:
    pair = Pair()

    def loss(b: Batch) -> dict[str, torch.Tensor]:
        return {"broken": pair.a(b.x).sum() * math.nan}

    message = r"stage 's', epoch 1: a/broken is nan; no epoch is good enough to keep: lower the learning rate"
    with pytest.raises(InputError, match=message):
        Play()({"a": Player(pair.a, loss)}, small, Recipe(epochs=1), stage="s")
    with pytest.raises(InputError, match="is nan before the strengths were full; no epoch is good enough"):
        Play()({"a": Player(pair.a, loss)}, small, Recipe(epochs=4), stage="s", settled=0.5)


@pytest.mark.parametrize(("keep", "kept"), [("best", 1), ("last", 3)])
@pytest.mark.parametrize("where", ["loss", "judge"])
def test_a_training_that_diverges_keeps_its_last_good_state(
    small: Data, keep: str, kept: int, where: str
) -> None:
    torch.manual_seed(0)
    pair, judged = Pair(), []

    def loss(b: Batch) -> dict[str, torch.Tensor]:
        broken = math.nan if where == "loss" and len(judged) == 3 else 1.0
        return {k: v * broken for k, v in loss_of(pair)(b).items()}

    def judge(latest: dict[str, float]) -> Verdict:
        judged.append(pair.a.weight.detach().clone())
        return Verdict(math.nan if len(judged) == 4 else float(len(judged)), {"auc": 0.5})

    players = {"a": Player(pair.a, loss, moves=Moves(average=0.5))}
    record = Play()(players, small, Recipe(epochs=9, keep=keep), stage="s", judge=judge)
    assert torch.equal(pair.a.weight, judged[kept - 1])
    assert (record["kept"], record["stable"]) == (kept, False)
    what = "a/both is nan" if where == "loss" else "valid/criterion is nan"
    assert record["stopped"] == f"diverged: epoch 4: {what}"
    assert f"diverged in epoch 4: {what}, and epoch {kept} was kept; lower the" in record["reason"]
    assert {len(curve) for curve in record["curves"].values()} == {3} == {len(record["complaints"])}


def test_an_epoch_that_holds_is_better_than_a_better_one_that_does_not(small: Data) -> None:
    pair = Pair()
    told = iter([(1.0, 0.5, "off"), (3.0, -0.1, ""), (2.0, 0.0, ""), (0.5, 0.1, "off"), (2.5, 0.0, "")])

    def judge(latest: dict[str, float]) -> Verdict:
        criterion, violation, complaint = next(told)
        return Verdict(criterion, {}, complaint, violation)

    players = {"a": Player(pair.a, loss_of(pair))}
    record = Play()(players, small, Recipe(epochs=5), stage="s", judge=judge)
    assert (record["kept"], record["stable"]) == (3, True)
    told = iter([(1.0, 0.5, "far off"), (2.0, 0.1, "off"), (0.5, 0.3, "off")])
    record = Play()(players, small, Recipe(epochs=3), stage="s", judge=judge)
    assert (record["kept"], record["reason"]) == (2, "off")


def test_a_player_without_parameters_is_refused(small: Data) -> None:
    with pytest.raises(InputError, match="player 'a' has nothing to move"):
        Play()({"a": Player(nn.Identity(), lambda b: {})}, small, Recipe(epochs=1), stage="s")


def test_gradients_are_clipped(small: Data) -> None:
    pair = Pair()
    before = pair.a.weight.detach().clone()
    moves = Moves(optimizer="sgd", momentum=0.0, weight_decay=0.0, lr=1.0, schedule="constant", clip=0.01)
    Play()(
        {"a": Player(pair.a, loss_of(pair), moves=moves)}, small, Recipe(epochs=1, batch=10_000), stage="s"
    )
    assert 0 < float((pair.a.weight - before).detach().norm()) <= 0.0101


def test_checkpoints_of_another_training_are_left_aside(tmp_path: Path) -> None:
    Checkpoints(tmp_path, fingerprint="one").save(0, {"epoch": 3})
    assert Checkpoints(tmp_path, fingerprint="one").load(0)["epoch"] == 3
    assert Checkpoints(tmp_path, fingerprint="two").load(0) is None
    assert Checkpoints(tmp_path, fingerprint="one").load(1) is None
    assert Checkpoints(None).load(0) is None


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02cos\nsystem\n(S'echo'\ntR."])
def test_damaged_or_hostile_checkpoints_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "stage_0.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"stage_0.pt: not a readable checkpoint .*delete it"):
        Checkpoints(tmp_path).load(0)


def test_a_checkpoint_is_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"version": 1, "fingerprint": "", "epoch": Trap()}, tmp_path / "stage_0.pt")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        Checkpoints(tmp_path).load(0)
    assert not (tmp_path / "sprung").exists()


def train_and_die(folder: Path, name: str, kill_at: int) -> None:
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import conftest
conftest.cut_training(Path({str(folder)!r}), {name!r}, kill_at={kill_at})
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(("name", "kill_at"), [("tagger", 2), ("excised", 5)])
def test_a_killed_training_goes_on_bit_for_bit(tmp_path: Path, cut_training, name: str, kill_at: int) -> None:
    """Tagger in the middle of its stage; Excised in the middle of its second one."""
    whole = cut_training(tmp_path / "whole", name)
    train_and_die(tmp_path / "cut", name, kill_at)
    cut = cut_training(tmp_path / "cut", name)
    assert whole[0].keys() == cut[0].keys()
    for key, value in whole[0].items():
        assert torch.equal(value, cut[0][key]), key
    assert whole[1] == cut[1]
    assert torch.equal(whole[2], cut[2])  # and the next draw would be the same
    assert len(whole[1]) == (2 if name == "excised" else 1)
