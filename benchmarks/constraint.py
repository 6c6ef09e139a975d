"""One training under a constraint against a scan of ten strengths: same network, same seed, same events.

    python benchmarks/constraint.py --table results/full/table --out results/constraint

TABLE is a training table with test events, as `benchmarks/sculpting.py` leaves one.  Trains the config's
DisCo tagger with strengths from 1 to 100 and once with `hold`, then judges all of them on the test events:
AUC, and Holm's p-value of sculpting over rejections 50, 90, 95, 99 and 99.5 %.  The best point of the scan
is the highest AUC among those with no sculpting resolved.  What is finished in OUT is not trained again.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from hepdecorr.config import load
from hepdecorr.learning import fitting
from hepdecorr.learning.batches import Events
from hepdecorr.learning.layout import Layout
from hepdecorr.table import Selection, Split, Table
from hepdecorr.validation.measures import auc, holm, sculpting
from hepdecorr.validation.measures.evaluation import REJECTIONS

CONFIG = Path(__file__).parents[1] / "analysis_configs" / "bsgamma.yaml"
SPLIT = Split(10, (0,), (5, 6, 7, 8, 9))
STRENGTHS = [float(s) for s in np.geomspace(1, 100, 10)]
HOLD = {"measure": "dcor", "at_most": "floor"}
SPAN = (5.20, 5.29)


def specs() -> dict[str, dict[str, Any]]:
    """The taggers: the config's DisCo with its two terms, strong as one and one half of what is scanned."""
    common = {k: v for k, v in load(CONFIG).taggers["disco"].items() if k not in ("title", "description")}
    bulk, tail = ({k: v for k, v in term.items() if k != "strength"} for term in common["terms"])
    taggers = {}
    for s in STRENGTHS:
        taggers[f"{s:.3g}"] = common | {"terms": [bulk | {"strength": s}, tail | {"strength": s / 2}]}
    return taggers | {"hold": common | {"terms": [bulk | {"hold": HOLD}, tail | {"hold": HOLD}]}}


def train(spec: dict[str, Any], *, table: Table, seed: int, folder: Path) -> dict[str, Any]:
    """Train one tagger and keep its logits of the test events, with what the training says of itself."""
    start = time.process_time()
    trained = fitting.train(spec, table=table, split=SPLIT, seed=seed, device="cpu", folder=folder / "work")
    seconds = time.process_time() - start
    test = Events.from_table(table, Layout.of(table), select=Selection("test", SPLIT)).all
    validation = trained.data.validation.all
    arrays: dict[str, Any] = {"logit": fitting.logits(trained.method, test), "label": test.y.numpy()}
    arrays |= {"nuisance": test.z[:, 0].numpy(), "validation": fitting.logits(trained.method, validation)}
    np.savez(folder / "scores.npz", **arrays)
    told = {"seconds": seconds, "stages": trained.history, "stable": trained.stable}
    (folder / "training.json").write_text(json.dumps(told))
    return told


def judge(folder: Path) -> dict[str, Any]:
    """AUC with its error, and sculpting at each rejection, on the test events."""
    arrays = np.load(folder / "scores.npz")
    logit, label = arrays["logit"].astype(float), arrays["label"]
    own = label == 0
    points = [
        sculpting(logit[own], arrays["nuisance"][own].astype(float), range=SPAN, rejection=r, seed=1000 * k)
        for k, r in enumerate(REJECTIONS)
    ]
    adjusted = holm([point.p_value for point in points])
    area = auc(logit, label)
    excess, upper = [p.excess for p in points], [p.excess_upper for p in points]
    return {"auc": area.value, "std": area.std, "p": list(adjusted), "excess": excess, "upper": upper}


def main(
    table: Annotated[Path, typer.Option(help="The training table.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results/constraint"),
    seed: Annotated[int, typer.Option()] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Only these: a strength, or hold.")] = None,
) -> None:
    """Train what is missing, judge everything, print a line for each and the verdict."""
    torch.set_num_threads(1)
    found = {}
    for name, spec in specs().items():
        folder = out / f"{name}-{seed}"
        if only and name not in only:
            continue
        if not (folder / "training.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            train(spec, table=Table.open(table), seed=seed, folder=folder)
        told = json.loads((folder / "training.json").read_text())
        found[name] = judge(folder) | {"seconds": told["seconds"], "stable": told["stable"]}
        print(line(name, found[name]), flush=True)
    (out / f"constraint-{seed}.json").write_text(json.dumps(found, indent=1))
    conclude(found)


def line(name: str, f: dict[str, Any]) -> str:
    """One tagger's figures."""
    p = " ".join(f"{one:.3f}" for one in f["p"])
    excess = " ".join(f"{1e4 * one:6.1f}" for one in f["excess"])
    area = f"AUC {f['auc']:.5f} +- {f['std']:.5f}"
    return f"{name:>5}: {area}, Holm p {p}, excess x 1e4 {excess}, {f['seconds']:.0f} CPU-s"


def conclude(found: dict[str, dict[str, Any]]) -> None:
    """Print how far the constraint is from the best point of the scan."""
    clean = {n: f for n, f in found.items() if n != "hold" and min(f["p"]) > 0.05}
    if not clean or "hold" not in found:
        print("no strength of the scan is without sculpting" if not clean else "no training with hold yet")
        return
    best = max(clean, key=lambda n: clean[n]["auc"])
    held = found["hold"]
    resolved = "no sculpting resolved" if min(held["p"]) > 0.05 else "sculpting resolved"
    scanned = sum(f["seconds"] for n, f in found.items() if n != "hold")
    print(
        f"best point: strength {best}, AUC {clean[best]['auc']:.5f}; hold {held['auc']:.5f} "
        f"({held['auc'] - clean[best]['auc']:+.5f}), {resolved}, {held['seconds'] / scanned:.2f} of its time"
    )


if __name__ == "__main__":
    typer.run(main)
