"""The main job on a large sample: every method with several seeds, judged on files that nothing was tuned on.

    python benchmarks/sculpting.py --data FOLDER --out results/full

FOLDER holds bsgamma_{signal,continuum}_{train,test}.root; `hepdecorr generate bsgamma` makes such files
(with --candidates and a seed of their own for each).  Training sees the train files alone.  Prints, for each
tagger, mean and spread over the seeds of AUC, signal efficiency and the excess of JSD over its floor
with its 95 % upper limit, at each background rejection.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

CONFIG = Path(__file__).parents[1] / "analysis_configs" / "bsgamma.yaml"


def datasets(data: Path) -> dict[str, Any]:
    """The four files, each for one side."""
    found = {}
    for use in ("train", "test"):
        for name, label in (("signal", "signal"), ("continuum", "background")):
            file = str((data / f"bsgamma_{name}_{use}.root").resolve())
            found[f"{name}_{use}"] = {"files": file, "label": label, "use": use}
    return found


def main(
    data: Annotated[Path, typer.Option(help="Folder with the four ROOT files.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results/full"),
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "1,2,3",
    only: Annotated[list[str] | None, typer.Option(help="Only this tagger; repeatable.")] = None,
) -> None:
    """Run the analysis, or what of it is missing, and print its figures."""
    values = {
        "samples.datasets": json.dumps(datasets(data)),
        "seeds": f"[{seeds}]",
        "output": str(out.resolve()),
        "models": str((out / "models").resolve()),
    }
    command = [sys.executable, "-m", "hepdecorr.cli.main", "run", str(CONFIG)]
    command += [a for k, v in values.items() for a in ("--set", f"{k}={v}")]
    command += [a for name in only or [] for a in ("--only", name)]
    subprocess.run(command, check=True)
    summarise(json.loads((out / "report" / "metrics.json").read_text()))


def summarise(metrics: dict[str, Any]) -> None:
    """Print mean +- spread over seeds."""
    for name, tagger in metrics["taggers"].items():
        runs = tagger
        print(f"{name}: AUC {spread([r['auc']['value'] for r in runs], digits=5)}, {len(runs)} seeds")
        for i, rejection in enumerate(r["rejection"] for r in runs[0]["signal_efficiency"]):
            points = [r["sculpting"][i] for r in runs]
            efficiency = spread([r["signal_efficiency"][i]["efficiency"]["value"] for r in runs], digits=4)
            excess = spread([p["excess"] for p in points], digits=5)
            upper = spread([p["excess_upper"] for p in points], digits=5)
            lowest = min(r["p_holm"][i] for r in runs)
            print(
                f"  rejection {rejection:5}: signal efficiency {efficiency}, "
                f"JSD floor {points[0]['floor']:.5f}, excess {excess}, upper limit {upper}, "
                f"smallest Holm p {lowest:.3f}"
            )


def spread(values: list[float], *, digits: int) -> str:
    """Mean +- standard deviation."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.{digits}f} +- {deviation:.{digits}f}"


if __name__ == "__main__":
    typer.run(main)
