"""hep_ml's own test: features Y1, Y2, Y3; signal is to be flat in M2AB and M2AC jointly.  Who keeps most AUC?

    pip install -c constraints.txt hep_ml      (0.8.0)
    python benchmarks/dalitz.py --data dalitzdata.root

DATA is the file of hep_ml's notebooks.  Same events for all: of a seeded order the first 20,000 train (of
which hepdecorr takes 2,000 to choose its epoch; hep_ml learns from all) and the next 40,000 test.  The ruler
is hep_ml's Cramer-von-Mises figure of signal in 10 x 10 bins, its kNN form beside it, and our own: unbiased
joint dCor^2 and, for a cut at half the signal efficiency, the JSD in M2AB above its floor.  All but the AUC
look at signal; 'floor' is what a score of pure chance reads.

Methods are scanned over their strength.  Errors: jackknife over ten parts of the test events (redrawn events
would repeat, and a repeated event is not flat), and the spread over the seeds.  Then, at the flatness of each
point of hep_ml, the AUC that our methods scanned from 0 on have there, less hep_ml's; paired in events and
seeds.  Our settings were chosen on folds of the training events.  'with map': a quantile map stands behind
the tagger, which needs M2AB and M2AC where it is applied; hep_ml's and all else need them in training alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import uproot
from numpy.typing import NDArray

from hepdecorr.learning import Data, Events, Play
from hepdecorr.learning.methods import Tagger
from hepdecorr.learning.posthoc import Background, QuantileMap
from hepdecorr.learning.terms.disco import distance_correlation
from hepdecorr.validation.measures import auc, sculpting

Array = NDArray[np.float64]

FEATURES, NUISANCES = ["Y1", "Y2", "Y3"], ["M2AB", "M2AC"]
TRAIN, VALIDATION, TEST = 20_000, 2_000, 40_000
PARTS = 10  # of the test events, for the jackknife
NETWORK = {"type": "MLP", "hidden": [64, 64], "inputs": {"scale": "quantile"}}
PLAIN = {"batch": 1024, "turns": 1000}
PAYING = {"batch": 2048, "turns": 600}


class Part(NamedTuple):
    """Some events: columns by name, and labels."""

    columns: Mapping[str, Array]
    y: NDArray[np.int64]

    def matrix(self, names: Sequence[str]) -> Array:
        return np.stack([self.columns[n] for n in names], 1)

    def take(self, index: Any) -> Part:
        return Part({n: c[index] for n, c in self.columns.items()}, self.y[index])

    def frame(self) -> Any:
        from pandas import DataFrame

        return DataFrame(dict(self.columns))


Fit = Callable[[Part, Part, int], Array]  # train, test, seed -> scores of the test events


class Point(NamedTuple):
    """A method at one strength: AUC and CvM for each seed, of all test events and without each part."""

    figures: Array  # (seeds, 1 + PARTS, 2)
    beside: tuple[float, ...]  # kNN CvM, dCor^2, excess of JSD
    seconds: float  # CPU, of one training


def read(path: Path) -> tuple[Part, Part]:
    """Training and test events."""
    with uproot.open(path) as file:
        arrays = file["tree"].arrays([*FEATURES, *NUISANCES, "labels"], library="np")
    label = arrays.pop("labels").astype(np.int64)
    events = Part({k: v.astype(np.float64) for k, v in arrays.items()}, label)
    order = np.random.default_rng(42).permutation(len(label))
    return events.take(order[:TRAIN]), events.take(order[TRAIN : TRAIN + TEST])


def boosted(loss: str, strength: float, *, trees: int, rate: float) -> Fit:
    """hep_ml's gradient boosting, with the settings of its notebook but for what is given."""

    def fit(train: Part, test: Part, seed: int) -> Array:
        from hep_ml import gradientboosting, losses

        shared = {"uniform_features": NUISANCES, "uniform_label": 1, "fl_coefficient": strength}
        made = {
            "plain": losses.LogLossFunction,
            "bins": lambda: losses.BinFlatnessLossFunction(n_bins=10, **shared),
            "knn": lambda: losses.KnnFlatnessLossFunction(n_neighbours=100, random_state=seed, **shared),
        }
        model = gradientboosting.UGradientBoostingClassifier(
            loss=made[loss](), max_depth=6, n_estimators=trees, learning_rate=rate, subsample=0.4,
            train_features=FEATURES, random_state=seed,
        )  # fmt: skip
        model.fit(train.frame(), train.y)
        return np.asarray(model.predict_proba(test.frame())[:, 1])

    return fit


def uboost(*, trees: int = 50, steps: int = 12) -> Fit:
    """hep_ml's uBoost as in its notebook; it has no strength."""

    def fit(train: Part, test: Part, seed: int) -> Array:
        from hep_ml.uboost import uBoostClassifier
        from sklearn.tree import DecisionTreeClassifier

        model = uBoostClassifier(
            uniform_features=NUISANCES, uniform_label=1, base_estimator=DecisionTreeClassifier(max_depth=4),
            n_estimators=trees, train_features=FEATURES, efficiency_steps=steps, n_threads=1,
            random_state=seed,
        )  # fmt: skip
        model.fit(train.frame(), train.y)
        return np.asarray(model.predict_proba(test.frame())[:, 1])

    return fit


def tagger(*terms: Mapping[str, Any], mapped: bool = False, features: Sequence[str] = FEATURES) -> Fit:
    """Ours; a term of strength 0 is none.  mapped: with a quantile map, fitted on signal, behind it."""
    paying = [{**term, "given": "signal"} for term in terms if term["strength"]]

    def fit(train: Part, test: Part, seed: int) -> Array:
        def events(part: Part) -> Events:
            x, z, y = part.matrix(features), part.matrix(NUISANCES), part.y
            return Events(*map(torch.from_numpy, (x, y, z)), features=features, nuisances=NUISANCES)

        torch.manual_seed(seed)
        method = Tagger(
            features=features, nuisances=NUISANCES, terms=paying, network=NETWORK,
            training=PAYING if paying else PLAIN,
        )  # fmt: skip
        learning, judging = train.take(slice(VALIDATION, None)), train.take(slice(VALIDATION))
        torch.set_flush_denormal(True)
        method.learn(Data(events(learning), events(judging)), Play(seed=seed))
        method.eval()
        with torch.no_grad():
            train_logit, logit = (method.logit(events(part).all.x).double().numpy() for part in (train, test))
        if mapped:
            own, chart = train.y == 1, QuantileMap(nuisance=NUISANCES)
            z = train.matrix(NUISANCES)[own]
            chart.fit(Background.checked(train_logit[own], z, np.ones(len(z)), names=NUISANCES))
            both = (torch.from_numpy(v).float() for v in (logit, test.matrix(NUISANCES)))
            logit = chart(*both).double().numpy()
        return np.asarray(1 / (1 + np.exp(-logit)))

    return fit


def disco(strength: float, **more: Any) -> Fit:
    term = {"type": "DisCo", "nuisance": NUISANCES, "strength": strength, "tail": 0, "draw": 0}
    return tagger(term, **more)


def flatness(strength: float) -> Fit:
    """The loss of hep_ml's flatness boosting, in a network: exact gradients, by the rank of the score."""
    term = {"type": "Flatness", "nuisance": NUISANCES, "strength": strength, "bins": 8, "sees": "rank"}
    return tagger({**term, "tail": 0})


def adversary(strength: float) -> Fit:
    """A mixture of Gaussians in both nuisances jointly."""
    return tagger({"type": "GMM", "nuisance": NUISANCES, "strength": strength, "tail": 0})


THEIRS: dict[str, dict[float, Fit]] = {
    "hep_ml log loss": {0: boosted("plain", 0, trees=50, rate=0.2)},
    "hep_ml uGB+BinFL, 50 trees": {
        s: boosted("bins", s, trees=50, rate=0.2) for s in (1, 3, 5, 10, 15, 30, 100)
    },
    "hep_ml uGB+BinFL, 200 trees": {s: boosted("bins", s, trees=200, rate=0.1) for s in (5, 15, 30, 100)},
    "hep_ml uGB+KnnFL, 50 trees": {s: boosted("knn", s, trees=50, rate=0.2) for s in (5, 15)},
    "hep_ml uBoost": {0: uboost()},
}
OURS: dict[str, dict[float, Fit]] = {
    "hepdecorr DisCo": {s: disco(s) for s in (0, 1, 3, 10, 30)},
    "hepdecorr Flatness": {s: flatness(s) for s in (0, 0.3, 1, 3, 10)},
    "hepdecorr adversary (GMM)": {s: adversary(s) for s in (1, 5)},
    "hepdecorr plain, with map": {0: tagger(mapped=True)},
    "hepdecorr DisCo, with map": {s: disco(s, mapped=True) for s in (3, 10)},
    "hepdecorr M2 as inputs, with map": {0: tagger(mapped=True, features=[*FEATURES, *NUISANCES])},
}
DEAR = ("hep_ml uGB+KnnFL, 50 trees", "hep_ml uBoost", "hepdecorr adversary (GMM)")  # for these one seed


class Ruler:
    """AUC and hep_ml's figures of scores of the test events."""

    def __init__(self, test: Part) -> None:
        from hep_ml.metrics import BinBasedCvM, KnnBasedCvM

        self.test = test
        part = np.arange(len(test.y)) % PARTS
        self._kept = [np.ones(len(part), dtype=bool), *(part != k for k in range(PARTS))]
        self._bins = [
            BinBasedCvM(NUISANCES, uniform_label=1, n_bins=10).fit(test.take(k).frame(), test.y[k])
            for k in self._kept
        ]
        self._near = KnnBasedCvM(NUISANCES, uniform_label=1).fit(test.frame(), test.y)

    def figures(self, score: Array) -> Array:
        """AUC and CvM, shape (1 + PARTS, 2)."""
        return np.array(
            [
                [auc(score[k], self.test.y[k]).value, self._cvm(metric, score[k], self.test.y[k])]
                for k, metric in zip(self._kept, self._bins, strict=True)
            ]
        )

    def cvm(self, score: Array) -> float:
        """CvM of all test events."""
        return self._cvm(self._bins[0], score, self.test.y)

    def beside(self, score: Array) -> tuple[float, ...]:
        """kNN CvM, joint dCor^2, and the excess of JSD in M2AB at half the signal efficiency."""
        own = self.test.y == 1
        rank = score[own].argsort().argsort() / own.sum()
        z = self.test.matrix(NUISANCES)[own]
        few = slice(5000)
        seen = (torch.from_numpy(v[few]) for v in (rank, z, np.ones(own.sum())))
        shape = sculpting(rank, z[:, 0], range=(0.04, 0.81), rejection=0.5, permutations=100, replicas=100)
        near = self._cvm(self._near, score, self.test.y)
        return near, float(distance_correlation(*seen, unbiased=True)), shape.excess

    @staticmethod
    def _cvm(metric: Any, score: Array, y: NDArray[np.int64]) -> float:
        return float(metric(y, np.stack([1 - score, score], 1), np.ones(len(y))))


def measure(fit: Fit, train: Part, ruler: Ruler, seeds: Sequence[int], *, keep: Path) -> Point:
    """Train with each seed and measure, but for those that are kept already."""
    held = []
    for seed in seeds:
        kept = keep.with_name(f"{keep.name}-{seed}.npz")
        if not kept.exists():
            start = time.process_time()
            score = fit(train, ruler.test, seed)
            seconds = time.process_time() - start
            figures, beside = ruler.figures(score), ruler.beside(score)
            np.savez(kept, score=score, figures=figures, beside=np.array(beside), seconds=seconds)
        with np.load(kept) as file:
            held.append([file[name] for name in ("figures", "beside", "seconds")])
    measured, others, spent = (np.stack(values) for values in zip(*held, strict=True))
    return Point(measured, tuple(others.mean(0)), float(spent.mean()))


def error(values: Array) -> float:
    """Of the mean over seeds of values (seeds, 1 + PARTS): jackknife over events, spread over seeds."""
    left = values.mean(0)[1:]
    events = (PARTS - 1) / PARTS * np.square(left - left.mean()).sum()
    seeds = values[:, 0].var(ddof=1) / len(values) if len(values) > 1 else 0.0
    return float(np.sqrt(events + seeds))


def gain(front: Sequence[Point], theirs: Point) -> Array:
    """AUC of our front at their CvM less theirs, (seeds, 1 + PARTS); NaN where our front does not reach.

    Between its points the front is taken as linear in log CvM; looser than its loosest point it stays there.
    """
    seeds = min(len(p.figures) for p in (*front, theirs))
    lines = np.stack([p.figures[:seeds] for p in front], 2)  # (seeds, parts, points, 2)
    found = np.empty(lines.shape[:2])
    for index in np.ndindex(*found.shape):
        aucs, cvms = lines[index].T
        order = cvms.argsort()
        at, wanted = np.log(cvms[order]), np.log(theirs.figures[index][1])
        found[index] = np.interp(wanted, at, aucs[order], left=np.nan) - theirs.figures[index][0]
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--keep", type=Path, help="folder of scores, to go on after an interruption")
    options.add_argument("--only", action="append", help="only methods whose name holds this; repeatable")
    given = options.parse_args()
    if not importlib.util.find_spec("hep_ml"):
        print("hep_ml: not installed, and its figure is the ruler; see this file's head")
        return
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="sklearn|hep_ml")
    train, test = read(given.data)
    ruler = Ruler(test)
    packages = ("hep_ml", "scikit-learn", "numpy", "pandas", "torch")
    print(", ".join(f"{p} {metadata.version(p)}" for p in packages))
    keep = given.keep or Path(tempfile.mkdtemp())
    keep.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(0).random((20, len(test.y)))
    floor = np.mean([ruler.cvm(one) for one in chance])
    print(f"{TRAIN} training and {TEST} test events; floor of CvM {floor:.5f}\n")
    print(f"{'method':34s} strength seeds  AUC               CvM x 1000       kNN CvM x 1000  "
          "dCor^2    JSD excess  CPU s")  # fmt: skip
    points: dict[str, dict[float, Point]] = {}
    for name, scan in (THEIRS | OURS).items():
        if given.only and not any(part in name for part in given.only):
            continue
        for strength, fit in scan.items():
            seeds = range(1, 2 if name in DEAR else given.seeds + 1)
            place = keep / re.sub(r"\W+", "-", f"{name} {strength}")
            point = measure(fit, train, ruler, seeds, keep=place)
            points.setdefault(name, {})[strength] = point
            tell(name, strength, point)
    compare(points)


def tell(name: str, strength: float, point: Point) -> None:
    """One row of the table."""
    (a, c), (da, dc) = point.figures[:, 0].mean(0), (error(point.figures[:, :, k]) for k in (0, 1))
    near, dcor, excess = point.beside
    print(f"{name:34s} {strength:8g} {len(point.figures):5d}  {a:.4f} +- {da:.4f}  {1e3 * c:6.2f} +- "
          f"{1e3 * dc:4.2f}  {1e3 * near:14.2f}  {dcor:8.5f}  {excess:10.5f}  {point.seconds:5.1f}",
          flush=True)  # fmt: skip


def compare(points: Mapping[str, Mapping[float, Point]]) -> None:
    """At the flatness of each point of hep_ml: our AUC less its."""
    whole = {name: scan for name, scan in points.items() if name in OURS and 0 in scan and len(scan) > 1}
    fronts = {name: list(scan.values()) for name, scan in whole.items()}
    for name, front in fronts.items():
        print(f"\nAUC of {name}, at hep_ml's CvM, less hep_ml's:")
        for theirs in (n for n in points if n in THEIRS):
            for strength, point in points[theirs].items():
                found = gain(front, point)
                mean, off = found[:, 0].mean(), error(found)
                text = f"{mean:+.4f} +- {off:.4f}" if np.isfinite(off) else "our scan is not that flat"
                print(f"  {theirs:30s} {strength:5g}: {text}")


if __name__ == "__main__":
    main()
