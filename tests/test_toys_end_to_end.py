"""A toy from `generate` to its report, as docs/toys.md says, on few events."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def hepdecorr(*arguments: str, cwd: Path) -> None:
    command = [sys.executable, "-m", "hepdecorr.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # One file is shared out between the classes by its label, and nobody need be told.
    assert "count twice" not in done.stderr


def test_a_toy_from_generate_to_report(tmp_path: Path) -> None:
    for name in ("processors", "analysis_configs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    asked = ("--process", "discrete", "--events", "2000", "--out", "data/toys_discrete.root")
    hepdecorr("generate", "toys", *asked, cwd=tmp_path)
    changes = ("taggers.plain.training.epochs=20", "taggers.conditional.training.epochs=2", "training.jobs=1")
    changes += ("taggers.conditional.terms.0.steps=1", "taggers.plain.training.batch=128")
    only = ("--only", "plain", "--only", "conditional")
    arguments = [part for change in changes for part in ("--set", change)]
    hepdecorr("run", "analysis_configs/toys/discrete.yaml", *only, *arguments, cwd=tmp_path)
    report = tmp_path / "results" / "toy_discrete" / "report"
    figures = {file.name for file in (report / "figures").glob("*.png")}
    assert {"surface_z.png", "byslice_z.png", "inslices_z.png", "training_conditional.png"} <= figures
    text = (report / "report.html").read_text()
    assert "Decision surface" in text
    assert "In bins of the protected variable" in text
    metrics = json.loads((report / "metrics.json").read_text())
    assert set(metrics["in_slices"]["z"]) == {"plain", "conditional"}
    (plain,) = metrics["in_slices"]["z"]["plain"]
    assert [one["title"] for one in plain["slices"]] == ["= 0", "= 1", "= 2", "= 3", "= 4"]
    # The test half of the events, each once.
    events = sum(one["background_events"] + one["signal_events"] for one in plain["slices"])
    assert 900 < events < 1100
    assert metrics["taggers"]["plain"][0]["auc"]["value"] > 0.95
    # The label depends on z: the plain score tells it, within the classes and over all events.
    assert plain["information"]["all"]["p_value"] < 1e-6
