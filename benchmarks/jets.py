"""Mass sculpting of W or top taggers over constituents: every tagger of the config with several seeds.

    python benchmarks/jets.py --data FOLDER --out results/jets

FOLDER holds jets_{qcd,w,top}.root; `hepdecorr generate jets` makes such files.  Half of the events, by the
hash of their numbers, is for testing.  Prints for each tagger, as mean and spread over the seeds: AUC, R50 and
1/JSD at 50 % signal efficiency with its p-value and the statistical limit, and beside it the same of a
per-mass quantile map of the plain taggers, on the same events.
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
FILES = {"wtag": {"w": "jets_w.root", "qcd": "jets_qcd.root"}, "toptag": {"top": "jets_top.root", "qcd": "jets_qcd.root"}}


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
