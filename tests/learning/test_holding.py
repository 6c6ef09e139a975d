"""A constraint in place of a strength."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.learning import Batch, Data, Play
from hepdecorr.learning.holding import Held, Hold, Scorer
from hepdecorr.learning.holding.measuring import MEASURES, Measure
from hepdecorr.learning.methods import Tagger
from hepdecorr.learning.methods.judging import Judge
from hepdecorr.learning.players import Player, Recipe
from hepdecorr.learning.terms import DisCo
from hepdecorr.validation.measures import dcor2

FEATURES = ["leaky", "clean", "noise"]
NET = {"type": "MLP", "hidden": [24, 24]}
SHORT = {"epochs": 10, "batch": 512, "lr": 5e-3, "average": 0.9}


def term(**change: object) -> DisCo:
    made = DisCo("mass", nuisances=["mass"], **{"tail": 0.0, "draw": 0, **change})
    made.fit(sample(2000, rho=0.0, seed=1)[0])
    return made


def sample(rows: int, *, rho: float, seed: int, tail: bool = False) -> tuple[Batch, torch.Tensor]:
    """Background with a nuisance of correlation `rho` to a logit; with `tail` only in its highest 5 %."""
    draw = np.random.default_rng(seed)
    logit, other = draw.normal(size=(2, rows))
    mass = rho * logit + math.sqrt(1 - rho**2) * other
    if tail:
        mass = np.where(logit > np.quantile(logit, 0.95), mass, other)
    z = torch.tensor(mass[:, None], dtype=torch.float32)
    ones = torch.ones(rows)
    b = Batch(z.repeat(1, 3), 0 * ones, z, ones, torch.zeros(rows, dtype=torch.int64), ones)
    return b, torch.tensor(logit, dtype=torch.float32)


def ratios(kind: str, made: DisCo, b: Batch, logit: torch.Tensor, **change: object) -> dict[str, float]:
    about = {"at_most": 0.0, "floors": 1.0, "at": (0.5, 0.9)} | change
    return {d.name: d.ratio for d in Measure(made, b, kind=kind, **about)(logit)}


@pytest.mark.parametrize("kind", MEASURES)
def test_independent_events_stay_below_the_floor_and_dependent_ones_do_not(kind: str) -> None:
    made, rows = term(), 700
    found = [max(ratios(kind, made, *sample(rows, rho=0.0, seed=s)).values()) for s in range(8)]
    # One sample in twenty is expected above the bound; three of eight have a probability of 0.006.
    assert sum(r > 1 for r in found) <= 2
    assert max(ratios(kind, made, *sample(rows, rho=0.6, seed=1)).values()) > 3


@pytest.mark.parametrize("kind", MEASURES)
def test_a_checkpoint_with_a_violation_can_be_read(kind: str, tmp_path: Path, small: Data) -> None:
    """Only plain numbers are read back without unpickling, and numpy's are none."""
    made, play = term(), Play(folder=tmp_path)
    hold = Hold(measure=kind, at=(0.5,), sample=0)
    held = Held(hold, made, scorer=Scorer(torch.nn.Identity(), lambda x: x[:, 0]), data=small, turns=4)
    judge = Judge(lambda x: x[:, 0], small.validation, terms={"disco": made}, held={"disco": held})
    net = torch.nn.Linear(3, 1)
    player = Player(net, lambda b: {"loss": net(b.x).square().mean()})
    play({"net": player}, small, Recipe(epochs=1), stage="s", judge=judge, companions={"hold": held})
    assert "does not hold" in play.history[0]["reason"]
    again = Play(folder=tmp_path)
    again({"net": player}, small, Recipe(epochs=1), stage="s", judge=judge, companions={"hold": held})
    assert again.history == play.history


def test_dcor_is_that_of_the_ranks_and_its_floor_that_of_independent_events() -> None:
    b, logit = sample(3000, rho=0.1, seed=3)
    (found,) = Measure(term(), b, kind="dcor", at_most=0.0, floors=1.0, at=())(logit)
    ranked = [stats.rankdata(t.numpy()) for t in (logit, b.z[:, 0])]
    assert found.value == pytest.approx(dcor2(*ranked, permutations=2).dcor2.value, rel=1e-6)
    # Of uniform marginals n dCor^2 goes to the sum of 90 / (pi^4 i^2 j^2) (chi^2_1 - 1) over all i, j.
    draw = np.random.default_rng(1)
    i = np.arange(1, 31)
    weights = 90 / math.pi**4 / np.outer(i, i) ** 2
    null = ((draw.normal(size=(4000, 30, 30)) ** 2 - 1) * weights).sum((1, 2))
    assert found.bound * 3000 == pytest.approx(np.quantile(null, 0.95), rel=0.2)


def test_a_tail_weight_shows_what_the_bulk_hides() -> None:
    made = term(tail=0.005)
    b, logit = sample(2000, rho=0.8, seed=5, tail=True)
    found = ratios("dcor", made, b, logit)
    assert found["mass_tail"] > 1.5 * found["mass"] > 1.5
    assert ratios("dcor", made, b, logit, bulk=False).keys() == {"mass_tail"}
    assert ratios("jsd", made, b, logit, at=(0.5, 0.99)).keys() == {"mass_at_0.5", "mass_at_0.99"}


def test_a_number_is_the_bound_itself() -> None:
    b, logit = sample(2000, rho=0.3, seed=2)
    (found,) = Measure(term(), b, kind="dcor", at_most=0.01, floors=1.0, at=())(logit)
    assert found.bound == 0.01
    floor = Measure(term(), b, kind="dcor", at_most=0.0, floors=1.0, at=())(logit)[0].bound
    assert Measure(term(), b, kind="dcor", at_most=0.0, floors=3.0, at=())(logit)[0].bound == 3 * floor


def test_weights_and_ties_count(batch: Batch) -> None:
    b, logit = sample(3000, rho=0.5, seed=2)
    half = b._replace(w=torch.where(b.z[:, 0] > 0, b.w, 0 * b.w))
    only = b.take(b.z[:, 0] > 0)
    found = Measure(term(), half, kind="dcor", at_most=1.0, floors=1.0, at=())(logit)
    known = Measure(term(), only, kind="dcor", at_most=1.0, floors=1.0, at=())(logit[b.z[:, 0] > 0])
    assert found[0].value == pytest.approx(known[0].value, rel=1e-6)
    tied = b._replace(z=(b.z > 0).float())
    (two,) = Measure(term(), tied, kind="dcor", at_most=1.0, floors=1.0, at=())(logit)
    assert two.value == pytest.approx(
        dcor2(stats.rankdata(logit), tied.z[:, 0], permutations=2).dcor2.value, rel=1e-5
    )


def test_the_multiplier_rises_while_the_constraint_is_violated_and_falls_when_it_holds(toy: Data) -> None:
    made, play = term(start=0.0, ramp=0.0), Play()
    scores = {"leaky": lambda x: x[:, 0], "clean": lambda x: x[:, 1]}
    found = {}
    for name, logit in scores.items():
        scorer = Scorer(torch.nn.Identity(), logit)
        held = Held(Hold(), made, scorer=scorer, data=toy, turns=4)
        play.passed = 0.05
        held.follow(play)
        found[name] = held
    most = made.growth.strength * math.exp(12 * 0.05)
    assert found["leaky"].figures()["multiplier"] == pytest.approx(most)  # at its fastest, d log m = rate dt
    assert found["leaky"].at(0.1) == pytest.approx(1.5 * most)  # and the damping on top of it
    assert found["clean"].figures()["multiplier"] < made.growth.strength
    before = found["leaky"].state_dict()
    play.turn = 1
    found["leaky"].follow(play)  # not a turn in which it looks
    assert found["leaky"].state_dict() == before
    twin = Held(Hold(), made, scorer=Scorer(torch.nn.Identity(), scores["leaky"]), data=toy, turns=4)
    twin.load_state_dict(before)
    assert twin.at(0.3) == found["leaky"].at(0.3)


def test_what_is_looked_at_are_the_averaged_weights_at_rest(small: Data) -> None:
    net, seen = torch.nn.Dropout(), set()
    averaged = [False]

    class Averaging(Play):
        @contextmanager
        def averaged(self) -> Iterator[None]:
            averaged[0] = True
            yield
            averaged[0] = False

    def logit(x: torch.Tensor) -> torch.Tensor:
        seen.add((averaged[0], net.training))
        return x[:, 0]

    play = Averaging()
    play.passed = 0.5
    Held(Hold(), term(), scorer=Scorer(net, logit), data=small, turns=4).follow(play)
    assert seen == {(True, False)}
    assert net.training


@pytest.mark.parametrize(
    "held", [{"type": "DisCo", "nuisance": "mass", "tail": 0, "draw": 0}, {"type": "GMM", "nuisance": "mass"}]
)
def test_one_training_finds_the_strength(toy: Data, held: dict[str, object]) -> None:
    """From a strength that is a hundred times too small to no dependence on events it has not seen."""
    extra = {"hidden": [16], "batch": 512, "steps": 2} if held["type"] == "GMM" else {}
    terms = [held | extra | {"strength": 0.1, "hold": {"rate": 20.0}}]
    torch.manual_seed(1)
    method = Tagger(features=FEATURES, nuisances=["mass"], terms=terms, training=SHORT, network=NET)
    play = Play(seed=1)
    method.learn(toy, play)
    (record,) = play.history
    (name,) = method.terms
    curve = record["curves"][f"hold_{name}/multiplier"]
    assert curve[0] == 0.1
    assert max(curve) > 1
    assert record["kept"] > 3
    at = {k: c[record["kept"] - 1] for k, c in record["curves"].items()}
    assert record["curves"][f"hold_{name}/mass in validation"][1] > 50  # as it was without
    assert at[f"hold_{name}/mass in validation"] < 2
    assert at["valid/auc"] > 0.68
    found = [ratio for key, ratio in at.items() if key.startswith("hold_") and " in " in key]
    assert ("does not hold" in record["reason"]) == (max(found) > 1)


def test_what_does_not_hold_is_said(toy: Data) -> None:
    made = term()
    held = Held(Hold(), made, scorer=Scorer(torch.nn.Identity(), lambda x: x[:, 0]), data=toy, turns=4)
    judge = Judge(lambda x: x[:, 0], toy.validation, terms={"disco_mass": made}, held={"disco_mass": held})
    with torch.no_grad():
        verdict = judge({})
    assert verdict.violation > 10
    assert verdict.criterion == verdict.figures["classify"]  # dependence costs nothing: it must hold
    message = r"disco_mass: does not hold: dcor of mass in \w+ events is 0\.\d+, at most \S+ was asked; train"
    assert re.search(message, verdict.complaint)


@pytest.mark.parametrize(
    ("hold", "message"),
    [
        ("floor", "hold must say what"),
        ({"measure": "dcorr"}, "did you mean 'dcor'"),
        ({"at_most": "flor"}, "at_most must be 'floor' or a number above 0"),
        ({"at_most": -1}, "at_most must be 'floor' or a number above 0"),
        ({"at": 0.9}, "at must be a list of background rejections"),
        ({"at": [99]}, "at must be a list of background rejections"),
        ({"rat": 3}, "there is no 'rat'"),
        ({"rate": 0}, "rate and floors must be positive"),
        ({"checks": 0}, "checks must be at least 1"),
    ],
)
def test_faults_are_named(hold: object, message: str) -> None:
    terms = [{"type": "DisCo", "nuisance": "mass", "hold": hold}]
    with pytest.raises(InputError, match=f"DisCo: .*{message}"):
        Tagger(features=FEATURES, nuisances=["mass"], terms=terms)


def test_a_strength_of_nothing_cannot_be_moved() -> None:
    terms = [{"type": "DisCo", "nuisance": "mass", "strength": 0, "hold": {"measure": "dcor"}}]
    with pytest.raises(InputError, match="DisCo: hold finds the strength"):
        Tagger(features=FEATURES, nuisances=["mass"], terms=terms)
