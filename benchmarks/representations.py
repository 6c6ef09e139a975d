"""The table of reference 0 on a large sample: AUC, JSD and MIG of six taggers with several seeds each.

    python benchmarks/representations.py --data FOLDER --out results/representations

FOLDER holds bsgamma_{signal,continuum}_{train,test}.root, as for sculpting.py.  Training sees the train files
alone; what is finished is skipped the next time.  JSD in nats, 50 bins, of background that passes and that
fails a cut at a rejection; MIG on validation background.  Differences are those of the same seed, with
Student's interval over the seeds; p-values are Holm-adjusted over the rows of a column.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from scipy import stats
from sculpting import datasets, spread  # type: ignore[import-not-found]

from hepdecorr.table import Table
from hepdecorr.validation.latents import Latents
from hepdecorr.validation.measures import auc, holm, sculpting, signal_efficiency

CONFIG = Path(__file__).parents[1] / "analysis_configs" / "bsgamma_representations.yaml"
REJECTIONS = (0.5, 0.9, 0.95, 0.99, 0.995)
RANGE, BINS = (5.20, 5.29), 50


def main(
    data: Annotated[Path, typer.Option(help="Folder with the four ROOT files.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results/representations"),
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "1,2,3,4,5",
    jobs: Annotated[int, typer.Option(help="Taggers trained at the same time.")] = 2,
    only: Annotated[list[str] | None, typer.Option(help="Only this tagger; repeatable.")] = None,
    against: Annotated[str, typer.Option(help="The row that others are compared with.")] = "sensitive",
) -> None:
    """Train and apply what is missing, measure, print the table."""
    values = {
        "samples.datasets": json.dumps(datasets(data)),
        "seeds": f"[{seeds}]",
        "training.jobs": str(jobs),
        "output": str(out.resolve()),
        "models": str((out / "models").resolve()),
    }
    settings = [a for k, v in values.items() for a in ("--set", f"{k}={v}")]
    settings += [a for name in only or [] for a in ("--only", name)]
    for verb in ("table", "train", "evaluate"):
        command = [sys.executable, "-m", "hepdecorr.cli.main", verb, str(CONFIG), *settings]
        subprocess.run(
            command if verb != "table" else command[: len(command) - 2 * len(only or [])], check=True
        )
    titles = {k: v["title"] for k, v in yaml.safe_load(CONFIG.read_text())["taggers"].items()}
    names = [name for name in titles if not only or name in only]
    found = {name: [_measured(out, name, seed) for seed in seeds.split(",")] for name in names}
    (out / "table.json").write_text(json.dumps(found, indent=1) + "\n")
    _print_table(found, titles)
    if against in found and len(seeds.split(",")) > 1:
        _print_differences(found, titles, against)


def _measured(out: Path, name: str, seed: str) -> dict[str, Any]:
    """The figures of one tagger and seed, kept so that a second call need not measure again."""
    model = out / "models" / f"bsgamma_representations-{name}-{seed}"
    kept = out / "measured" / f"{name}-{seed}.json"
    if kept.is_file() and kept.stat().st_mtime > (out / "evaluation" / "stamp.json").stat().st_mtime:
        return dict(json.loads(kept.read_text()))
    events = Table.open(out / "evaluation" / "scores").read([f"{name}-{seed}", "label", "m_bc"])
    logit, label = events[f"{name}-{seed}"], events["label"]
    background = label == 0
    m_bc = events["m_bc"][background].astype(np.float64)
    points = [
        sculpting(logit[background], m_bc, range=RANGE, bins=BINS, rejection=r, seed=1000 * k)
        for k, r in enumerate(REJECTIONS)
    ]
    figures: dict[str, Any] = {
        "auc": auc(logit, label).value,
        "background": int(background.sum()),
        "efficiency": [signal_efficiency(logit, label, rejection=r).efficiency.value for r in REJECTIONS],
        "jsd": [p.jsd.value for p in points],
        "floor": [p.floor for p in points],
        "excess": [p.excess for p in points],
        "upper": [p.excess_upper for p in points],
        "p": holm([p.p_value for p in points]),
        "mig": None,
    }
    if (model / "latents.npz").is_file():
        with np.load(model / "latents.npz") as arrays:
            gap = Latents.of(dict(arrays), features=()).gap
        figures["mig"] = None if gap is None else gap.mig.value
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(figures))
    return figures


def _print_table(found: dict[str, list[dict[str, Any]]], titles: dict[str, str]) -> None:
    first = next(iter(found.values()))[0]
    print(f"{first['background']:,} test background events; JSD in nats, {BINS} bins, at 99.5 % rejection:")
    print(f"floor {first['floor'][-1]:.4f}.  Mean +- standard deviation over the seeds.")
    for name, seeds in found.items():
        gaps = [one["mig"] for one in seeds if one["mig"] is not None]
        gap = spread(gaps, digits=3) if gaps else "-"
        jsd = spread([one["jsd"][-1] for one in seeds], digits=4)
        print(f"{titles[name]}: AUC {spread([s['auc'] for s in seeds], digits=4)}, JSD {jsd}, MIG {gap}")
        for k, rejection in enumerate(REJECTIONS):
            p = ", ".join(f"{one['p'][k]:.3f}" for one in seeds)
            excess = spread([one["excess"][k] for one in seeds], digits=5)
            efficiency = spread([one["efficiency"][k] for one in seeds], digits=3)
            upper = max(one["upper"][k] for one in seeds)
            print(
                f"  rejection {rejection:5}: signal efficiency {efficiency}, excess {excess}, largest upper "
                f"limit {upper:.5f}, Holm p by seed {p}"
            )


def _print_differences(found: dict[str, list[dict[str, Any]]], titles: dict[str, str], against: str) -> None:
    """Paired by seed, row minus the row that is compared with; 95 % intervals of Student's t."""
    print(f"differences from {titles[against]}, same seed, 95 % interval, Holm-adjusted p:")
    columns = {
        "AUC": lambda one: one["auc"],
        "JSD": lambda one: one["jsd"][-1],
        "MIG": lambda one: one["mig"],
    }
    for column, figure in columns.items():
        rows = {}
        for name, seeds in found.items():
            pairs = [(figure(a), figure(b)) for a, b in zip(seeds, found[against], strict=True)]
            if name != against and all(a is not None and b is not None for a, b in pairs):
                rows[name] = np.array([a - b for a, b in pairs])
        tests = {name: stats.ttest_1samp(row, 0.0) for name, row in rows.items()}
        adjusted = holm([float(test.pvalue) for test in tests.values()]) if tests else []
        for (name, test), p in zip(tests.items(), adjusted, strict=True):
            low, high = test.confidence_interval(0.95)
            verdict = "resolved" if p <= 0.05 else "not separable"
            print(
                f"  {column}, {titles[name]}: {rows[name].mean():+.4f} [{low:+.4f}, {high:+.4f}], p {p:.3f}: "
                f"{verdict}"
            )


if __name__ == "__main__":
    typer.run(main)
