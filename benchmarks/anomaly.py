"""Anomalous jets: what arXiv:2007.01850 and its slides show, every tagger of the configs with several seeds.

    python benchmarks/anomaly.py --data FOLDER --out results/anomaly

FOLDER holds the files that the heads of analysis_configs/anomaly.yaml and anomaly_top.yaml make.  Prints, for
every score of every tagger, as mean and spread over the seeds: AUC of each signal and their mean, rank
correlation with the mass of QCD, and for each rejection the excess of the divergence over its floor, with
Holm's p of each seed.  Then the reconstruction with and without exposure, what is left of the KL of each
latent as beta grows, the quick test of the slides, and how long each training took.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from hepdecorr.document import read_yaml
from hepdecorr.table import Arrays, Table
from hepdecorr.validation.measures import BySample, by_sample, holm, rank_correlation, sculpting

CONFIGS = Path(__file__).parents[1] / "analysis_configs"
SIGNALS = ("w59", "w80", "w120", "top80", "top174", "h4j20", "h4j80")
_TESTS = {name: f"test_{name}.root" for name in SIGNALS}
FILES = {
    "anomaly": {
        "qcd": "qcd_train*.root",
        "qcd_test": "qcd_test*.root",
        "outliers": "outliers_w*.root",
        **_TESTS,
    },
    "anomaly_top": {
        "top": "top_train*.root",
        "top_test": "test_top174.root",
        "outliers": "qcd_train*.root",
        "qcd": "qcd_test*.root",
        "w80": "test_w80.root",
    },
}
PARTS = ("schemes", "beta", "top")
BETAS = "0.1,0.5,1,5"  # of the slides
MASS = (0.0, 400.0)  # GeV, as in the configs
REJECTIONS = (0.5, 0.9, 0.95)
# Of the slides, 'Quick Test'.
WANTED = {"qcd": 0.920, "w80": 0.939}


class Given(NamedTuple):
    """What was asked on the command line."""

    data: Path
    out: Path
    seeds: str
    change: Sequence[str]


class Scored(NamedTuple):
    """One score of one tagger over its seeds, on the test events.

    name: of the score, '' for the tagger's own; values: by seed.
    """

    tagger: str
    name: str
    values: dict[int, np.ndarray[Any, Any]]

    @property
    def title(self) -> str:
        """Tagger and score."""
        return f"{self.tagger} {self.name}" if self.name else self.tagger


def main(
    data: Annotated[Path, typer.Option(help="Folder with the ROOT files.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results/anomaly"),
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "1,2,3",
    only: Annotated[list[str] | None, typer.Option(help="Only this tagger of schemes; repeatable.")] = None,
    part: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PARTS)}; repeatable.")] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="As of hepdecorr; repeatable.")] = None,
) -> None:
    """Run the analyses, or what of them is missing, and print their figures."""
    parts = part or list(PARTS)
    given = Given(data, out, seeds, change or [])
    if "schemes" in parts:
        hepdecorr(given, "run", "anomaly", *(a for name in only or [] for a in ("--only", name)))
        summarise(out / "anomaly", protects=True)
    if "beta" in parts:
        hepdecorr(given, "table", "anomaly")
        words = ["--tagger", "plain", "--over", f"beta={BETAS}", "--seeds", seeds, "--name", "beta"]
        hepdecorr(given, "scan", "anomaly", *words)
        vanishing(out / "anomaly")
    if "top" in parts:
        hepdecorr(given, "run", "anomaly_top")
        summarise(out / "anomaly_top", protects=False)


def hepdecorr(given: Given, verb: str, analysis: str, *words: str) -> None:
    """A verb of the command line on an analysis, with our files."""
    values = {
        f"samples.datasets.{k}.files": str(given.data.resolve() / f) for k, f in FILES[analysis].items()
    }
    out = given.out.resolve() / analysis
    values |= {"seeds": f"[{given.seeds}]", "output": str(out), "models": str(out / "models")}
    command = [sys.executable, "-m", "hepdecorr.cli.main", verb, str(CONFIGS / f"{analysis}.yaml"), *words]
    changes = [*(f"{k}={v}" for k, v in values.items()), *given.change]
    subprocess.run([*command, *(a for one in changes for a in ("--set", one))], check=True)


def summarise(folder: Path, *, protects: bool) -> None:
    """Print what the scores of the test events say; protects: whether the mass is to be no part of it."""
    table = Table.open(folder / "evaluation" / "scores")
    events = table.read(["mass", "label", "dataset", *table.names("score")])
    names = [k for k, v in table.datasets.items() if v["label"] == 1]
    rows: list[dict[str, Any]] = []
    for scored in scores(table, events):
        if scored.name == own_score(folder, scored):
            continue
        if scored.name == "sumsq" and any(row["score"] == "sumsq" for row in rows):
            continue  # of no network
        found = [measured(values, events, names, table, seed=seed) for seed, values in scored.values.items()]
        line(scored.title, found, protects=protects)
        rows.append(
            {"tagger": scored.tagger, "score": scored.name, "seeds": [one["figures"] for one in found]}
        )
    (folder / "benchmark.json").write_text(json.dumps(rows, indent=1))
    reconstruction(table, events)
    timings(folder)


def scores(table: Table, events: Arrays) -> Iterator[Scored]:
    """Every score there is: TAGGER-SEED is a tagger's own, TAGGER-SEED.NAME one beside it."""
    found: dict[tuple[str, str], dict[int, np.ndarray[Any, Any]]] = {}
    for column in table.names("score"):
        parts = re.fullmatch(r"(.+)-(\d+)(?:\.(\w+))?", column)
        assert parts, column
        values = events[column].astype(np.float64)
        if np.ptp(values) > 0:
            found.setdefault((parts[1], parts[3] or ""), {})[int(parts[2])] = values
        else:
            print(f"{column}: the same for all jets, and no score")
    for (tagger, name), by_seed in found.items():
        yield Scored(tagger, name, by_seed)


def own_score(folder: Path, scored: Scored) -> str:
    """Which of the scores a tagger's own logit is made of."""
    card = next((folder / "models").glob(f"*-{scored.tagger}-{min(scored.values)}")) / "card.yaml"
    return str(read_yaml(card)["method"].get("score", ""))


def measured(
    values: np.ndarray[Any, Any], events: Arrays, names: Sequence[str], table: Table, *, seed: int
) -> dict[str, Any]:
    """Figures of a score on the test events, `figures` of them as they go to a file."""
    places = np.array([names.index(k) if k in names else -1 for k in table.datasets])
    areas = by_sample(values, events["label"], places[events["dataset"]], names=names, rejections=REJECTIONS)
    own = events["label"] == 0
    mass = events["mass"][own].astype(np.float64)
    sculpts = [sculpting(values[own], mass, range=MASS, rejection=r, permutations=1000) for r in REJECTIONS]
    correlation = rank_correlation(values[own], mass)
    p = holm([one.p_value for one in sculpts])
    figures = {
        "seed": seed,
        "auc": {one.name: [one.auc.value, one.auc.std] for one in areas.samples},
        "mean_auc": [areas.mean_auc.value, areas.mean_auc.std],
        "rank_correlation": [correlation.value, correlation.std],
        "sculpting": [[r, one.excess, q] for r, one, q in zip(REJECTIONS, sculpts, p, strict=True)],
    }
    return {"areas": areas, "figures": figures, "sculpts": sculpts, "p": p}


def line(title: str, found: Sequence[dict[str, Any]], *, protects: bool) -> None:
    """Print one score."""
    areas: list[BySample] = [one["areas"] for one in found]
    each = [
        f"{one.name} {spread([a.of(one.name).auc.value for a in areas], 3)}"
        + (f" (slides: {WANTED[one.name]})" if not protects else "")
        for one in areas[0].samples
    ]
    mean = spread([a.mean_auc.value for a in areas], 4)
    print(
        f"{title}\n    AUC {', '.join(each)}\n    mean AUC {mean} (each +- {areas[0].mean_auc.std or 0:.4f})"
    )
    correlations = [one["figures"]["rank_correlation"] for one in found]
    error = max(std for _, std in correlations)
    print(f"    rank correlation with mass {spread([v for v, _ in correlations], 3)} (each +- {error:.3f})")
    for i, rejection in enumerate(REJECTIONS if protects else ()):
        at = [one["sculpts"][i] for one in found]
        p = ", ".join(f"{one['p'][i]:.3f}" for one in found)
        print(
            f"    rejection {rejection}: excess {spread([one.excess for one in at], 5)} nats over a floor of "
            f"{at[0].floor:.5f}, below {max(one.excess_upper for one in at):.5f} (95 %), Holm p {p}"
        )


def reconstruction(table: Table, events: Arrays) -> None:
    """Print the mean squared distance of background from what is decoded, which exposure is to leave."""
    own = events["label"] == 0
    for scored in scores(table, events):
        if scored.name == "mse":
            means = [float(values[own].mean()) for values in scored.values.values()]
            print(f"{scored.tagger}: |xhat - x|^2 / 4n of background {spread(means, 4)}")


def vanishing(folder: Path) -> None:
    """Print the KL that is left of each latent, by beta."""
    cards: dict[float, list[Path]] = {}
    points = [*(folder / "scans" / "beta" / "models").iterdir(), *(folder / "models").glob("*plain-*")]
    for path in points:
        beta = read_yaml(path / "card.yaml")["method"]["beta"]
        cards.setdefault(float(beta), []).append(path)
    for beta, paths in sorted(cards.items()):
        kl, mse = [], []
        for path in paths:
            with np.load(path / "latents.npz") as arrays:
                kl.append(np.sort(arrays["kl"])[::-1])
                mse.append(float(arrays["mse"]))
        each = ", ".join(spread([one[i] for one in kl], 2) for i in range(len(kl[0])))
        total = spread([one.sum() for one in kl], 3)
        print(f"beta {beta:g}: mse {spread(mse, 4)}, KL {total} nats; by latent {each}")


def timings(folder: Path) -> None:
    """Print how long trainings took."""
    for path in sorted((folder / "models").glob("*/card.yaml")):
        training = read_yaml(path)["training"]
        seconds, spent = training["seconds"], training["cpu_seconds"]
        print(f"{path.parent.name}: {training['events']:,} jets in {seconds} s, CPU {spent} s")


def spread(values: Sequence[float], digits: int) -> str:
    """Mean +- standard deviation."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.{digits}f} +- {deviation:.{digits}f}"


if __name__ == "__main__":
    typer.run(main)
