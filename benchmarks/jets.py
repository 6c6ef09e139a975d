"""Mass sculpting of W or top taggers over constituents: every tagger of the config with several seeds.

    python benchmarks/jets.py --data FOLDER --out results/jets

FOLDER holds jets_{qcd,w,top}.root; `hepdecorr generate jets` makes such files.  A part of the events, by the
hash of their numbers, is for testing and seen by nothing before.  Prints for each tagger, as mean and spread
over the seeds, AUC and R50, and for each seed 1/JSD at 50 % signal efficiency with its p-value and the
statistical limit; beside the plain taggers the same of their per-mass quantile map, on the same events.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

CONFIGS = Path(__file__).parents[1] / "analysis_configs"
FILES = {
    "wtag": {"w": "jets_w.root", "qcd": "jets_qcd.root"},
    "toptag": {"top": "jets_top.root", "qcd": "jets_qcd.root"},
}


def main(
    data: Annotated[Path, typer.Option(help="Folder with the ROOT files.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results/jets"),
    analysis: Annotated[str, typer.Option(help="wtag or toptag.")] = "wtag",
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "1,2,3",
    only: Annotated[list[str] | None, typer.Option(help="Only this tagger; repeatable.")] = None,
) -> None:
    """Run the analysis, or what of it is missing, and print its figures."""
    values = {f"samples.datasets.{k}.files": str((data / f).resolve()) for k, f in FILES[analysis].items()}
    values |= {
        "seeds": f"[{seeds}]",
        "output": str(out.resolve()),
        "models": str((out / "models").resolve()),
    }
    command = [sys.executable, "-m", "hepdecorr.cli.main", "run", str(CONFIGS / f"{analysis}.yaml")]
    command += [a for k, v in values.items() for a in ("--set", f"{k}={v}")]
    command += [a for name in only or [] for a in ("--only", name)]
    subprocess.run(command, check=True)
    summarise(json.loads((out / "report" / "metrics.json").read_text()))


def summarise(metrics: dict[str, Any]) -> None:
    """Print mean +- spread over seeds."""
    for name, runs in metrics["taggers"].items():
        _line(name, runs)
        if name in metrics.get("mapped", {}):
            _line(f"{name}, per-mass quantile map", metrics["mapped"][name])


def _line(name: str, runs: list[dict[str, Any]]) -> None:
    half = [run["half_signal"] for run in runs]
    print(
        f"{name}: AUC {spread([run['auc']['value'] for run in runs], 4)}, "
        f"R50 {spread([one['r50']['value'] for one in half], 1)}"
    )
    for one in half:
        found = one["sculpting"]
        print(
            f"    R50 {one['r50']['value']:6.1f} [{one['r50']['low']:.1f}, {one['r50']['high']:.1f}], "
            f"1/JSD {one['inverse_jsd_nats']['value']:.1f} (nats) "
            f"{one['inverse_jsd_bits']['value']:.1f} (bits), "
            f"limit {one['inverse_floor_nats']:.1f} (nats), p {found['p_value']:.4f}, "
            f"excess {found['excess']:+.4f}, below {found['excess_upper']:.4f} (95 %)"
        )
    for i, rejection in enumerate(point["rejection"] for point in runs[0]["signal_efficiency"]):
        excess = [run["sculpting"][i]["excess"] for run in runs]
        efficiency = [run["signal_efficiency"][i]["efficiency"]["value"] for run in runs]
        lowest = ", ".join(f"{run['p_holm'][i]:.3f}" for run in runs)
        print(
            f"    rejection {rejection:4}: signal efficiency {spread(efficiency, 3)}, "
            f"excess {spread(excess, 4)}, Holm p {lowest}"
        )


def spread(values: list[float], digits: int) -> str:
    """Mean +- standard deviation."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.{digits}f} +- {deviation:.{digits}f}"


if __name__ == "__main__":
    typer.run(main)
