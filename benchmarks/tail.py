"""The far tail: what taggers keep of the plain one's power once a cut at up to 99.5 % sculpts nothing.

    python benchmarks/tail.py --table results/full/table --models results/full/models --out results/tail.json

reads the training table and the taggers that benchmarks/sculpting.py leaves, fits maps of their scores on
the background that trained and validated, and measures each tagger with and without them on the test events,
which nothing was fitted or tuned on.  Prints, for each tagger, map and seed: AUC and signal efficiency at the
highest rejection, both in units of the plain tagger's of that seed with a paired bootstrap over events, and
at each rejection the excess of the JSD over its floor with its 95 % upper limit and Holm's p-value over the
rejections.  What is in --out already is not measured again.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hepdecorr import OnnxTagger, Table
from hepdecorr.learning.posthoc import Chain, apply
from hepdecorr.table import Selection, Split
from hepdecorr.validation.measures import auc, sculpting
from hepdecorr.validation.measures.compare import holm

REJECTIONS = (0.5, 0.9, 0.95, 0.99, 0.995)
SPLIT = Split(10, (0,), (5, 6, 7, 8, 9))
RANGE = (5.20, 5.29)
MAPS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "smooth": [{"type": "QuantileMap", "nuisance": "m_bc"}],
    "steps": [{"type": "QuantileMap", "nuisance": "m_bc", "form": "binned", "interpolate": False}],
    "flow": [{"type": "Transport", "nuisance": "m_bc", "form": "flow"}],
    "fixed": [{"type": "FixedEfficiency", "nuisance": "m_bc", "rejection": 0.995}],
    "DDT": [{"type": "DDT", "nuisance": "m_bc"}],
}
Arrays = dict[str, np.ndarray[Any, Any]]


def scored(tagger: OnnxTagger, table: Table, *, part: Any) -> Arrays:
    """Logit, nuisance, label and weight of a part of the table."""
    weights = table.names("weight")
    own = table.read([*tagger.feature_names, "m_bc", "label", *weights], select=Selection(part, SPLIT))
    weight = np.prod([own[w] for w in weights], axis=0)
    logit = tagger.logits(tagger.stack(own))
    return {"logit": logit, "m_bc": own["m_bc"], "label": own["label"], "weight": weight}


class Ranked:
    """Labels in falling order of a score; events may stand for several `copies` of themselves."""

    def __init__(self, score: Any, label: Any) -> None:
        self._order = np.argsort(-score, kind="stable")
        self._signal = label[self._order] == 1

    def efficiency(self, copies: Any, *, rejection: float) -> float:
        """Signal efficiency at a background rejection."""
        signal, background = self._parts(copies)
        taken = np.searchsorted(background.cumsum(), (1 - rejection) * background.sum(), side="right")
        return float(signal[:taken].sum() / signal.sum())

    def auc(self, copies: Any) -> float:
        """Area under the ROC curve; ties are as rare as equal float32 logits."""
        signal, background = self._parts(copies)
        return float((signal.cumsum() * background).sum() / background.sum() / signal.sum())

    def _parts(self, copies: Any) -> tuple[Any, Any]:
        ordered = copies[self._order]
        return ordered * self._signal, ordered * ~self._signal


def ratios(score: Any, plain: Any, label: Any, *, replicas: int = 100) -> dict[str, list[float]]:
    """AUC and signal efficiency at the last rejection over those of `plain`, with standard deviations."""
    draw = np.random.default_rng(0)
    one, other = Ranked(score, label), Ranked(plain, label)
    found: dict[str, list[float]] = {"auc_ratio": [], "efficiency_ratio": []}
    for replica in range(replicas + 1):
        copies = draw.poisson(1, len(label)) if replica else np.ones(len(label))
        found["auc_ratio"].append(one.auc(copies) / other.auc(copies))
        last = [r.efficiency(copies, rejection=REJECTIONS[-1]) for r in (one, other)]
        found["efficiency_ratio"].append(last[0] / last[1])
    return {k: [v[0], float(np.std(v[1:]))] for k, v in found.items()}


def measured(score: Any, plain: Any, own: Arrays) -> dict[str, Any]:
    """All that is reported of one tagger with one map."""
    background = own["label"] == 0
    s, z = score[background].astype(np.float64), own["m_bc"][background].astype(np.float64)
    points = [
        sculpting(s, z, range=RANGE, rejection=r, seed=1000 * k, permutations=2000)
        for k, r in enumerate(REJECTIONS)
    ]
    copies, ranked = np.ones(len(score)), Ranked(score, own["label"])
    return {
        "auc": auc(score, own["label"]).value,
        "efficiency": [ranked.efficiency(copies, rejection=r) for r in REJECTIONS],
        **ratios(score, plain, own["label"]),
        "excess": [p.excess for p in points],
        "upper": [p.excess_upper for p in points],
        "floor": [p.floor for p in points],
        "p_holm": holm([p.p_value for p in points]),
    }


def of_tagger(
    path: Path, table: Table, plain: Any, *, maps: list[str], known: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Logits of the test events, and what is measured with each map that is not known yet."""
    tagger = OnnxTagger(path)
    fitting = [scored(tagger, table, part=part) for part in ("train", "validation")]
    seen = {k: np.concatenate([part[k] for part in fitting]).astype(np.float64) for k in fitting[0]}
    own, background = scored(tagger, table, part="test"), seen["label"] == 0
    plain, found = own["logit"] if plain is None else plain, dict(known)
    for name in (m for m in maps if m not in found):
        block, score, begin = MAPS[name], own["logit"], time.process_time()
        if block:
            chain = Chain.read(block, known=["m_bc"])
            chain.fit(
                seen["logit"][background], {"m_bc": seen["m_bc"][background]}, seen["weight"][background]
            )
            score = apply(chain, score, own)
        seconds = time.process_time() - begin
        found[name] = measured(score, plain, own) | {"seconds": seconds, "fitted_on": int(background.sum())}
        print(line(path.name, name, found[name]), flush=True)
    return own["logit"], found


def line(tagger: str, name: str, one: dict[str, Any]) -> str:
    """One row of the table."""
    points = "; ".join(
        f"{e:+.5f} (< {u:.5f}, p {p:.3f})"
        for e, u, p in zip(one["excess"], one["upper"], one["p_holm"], strict=True)
    )
    (a, da), (e, de) = one["auc_ratio"], one["efficiency_ratio"]
    return (
        f"| {tagger} | {name} | {one['auc']:.5f} | {a:.5f} +- {da:.5f} | {e:.4f} +- {de:.4f} | {points} | "
        f"{'resolved' if min(one['p_holm']) <= 0.05 else 'none resolved'} |"
    )


def main(
    table: Annotated[Path, typer.Option(help="Folder of the training table.")],
    models: Annotated[Path, typer.Option(help="Folder of the trained taggers.")],
    out: Annotated[Path, typer.Option(help="JSON file with the figures.")] = Path("results/tail.json"),
    taggers: Annotated[str, typer.Option(help="Comma-separated, 'plain' first.")] = "plain,disco,pivot",
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "1,2,3",
    maps: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(MAPS),
) -> None:
    """Measure what there is, print a row each."""
    figures: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
    opened = Table.open(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    print("| tagger | map | AUC | / plain | efficiency at the last rejection / plain | excess at each | |")
    for seed in seeds.split(","):
        plain = None
        for name in taggers.split(","):
            path = models / f"bsgamma-{name}-{seed}"
            if not path.is_dir():
                print(f"{path}: not there yet")
                continue
            known = figures.get(path.name, {})
            logit, figures[path.name] = of_tagger(path, opened, plain, maps=maps.split(","), known=known)
            plain = logit if plain is None else plain
            out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    typer.run(main)
