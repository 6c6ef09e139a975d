"""Exam scores with many seeds: CxVAE, ML-VAE, GVAE, Nemeth's regulariser and the ablation, in one command.

    python benchmarks/exam_scores.py --out results/exam_scores [--seeds 20] [--only cxvae --only gvae]

Schools are made, put in a table, every tagger of analysis_configs/exam_scores.yaml is trained with every
seed, and all are measured on test schools: OUT/results/groups/groups.html has tables, boxes and tests.  What
is finished is skipped the next time, and its seconds are then not in the total that is printed.  The aim:
twenty seeds of all taggers within 40 minutes on two cores.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from hepdecorr.cli.steps import Analysis
from hepdecorr.config import load
from hepdecorr.samples.exam_scores import Options, generate
from hepdecorr.validation.measures.code_evaluation import FIGURES

CONFIG = Path(__file__).parents[1] / "analysis_configs" / "exam_scores.yaml"
TOLD = ("reconstruction", "translation", "translation_means", "u_probe", "v_prediction", "v_probe")
AIM = 40  # minutes, with twenty seeds of all taggers on two cores


def main(
    out: Annotated[Path, typer.Option(help="Folder for the sample and the results.")] = Path(
        "results/exam_scores"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="How many, from 1.")] = 20,
    groups: Annotated[int, typer.Option(help="Schools.")] = 32_768,
    noise: Annotated[float, typer.Option(help="Deviation of a score's error.")] = 0.5,
    jobs: Annotated[int, typer.Option(min=1, help="Taggers trained or measured at the same time.")] = 2,
    only: Annotated[list[str] | None, typer.Option(help="Only this tagger; repeatable.")] = None,
) -> None:
    """Do what is missing, print what is found and how long it took."""
    started = time.perf_counter()
    sample = (out / "exam_scores.root").resolve()
    if not sample.is_file():
        generate(out=sample, groups=groups, options=Options(noise=noise))
    overrides = [
        f"output={(out / 'results').resolve()}",
        f"samples.datasets.schools.files={sample}",
        f"seeds={list(range(1, seeds + 1))}",
        f"training.jobs={jobs}",
    ]
    # The decoder is told the noise that the sample has.
    overrides += [f"taggers.{name}.decoder.noise={noise}" for name in load(CONFIG).taggers]
    config = load(CONFIG, overrides=overrides)
    console = Console()
    Analysis(config, console=console, only=[]).table()
    analysis = Analysis(config, console=console, only=only or [])
    analysis.train()
    trained = time.perf_counter()
    page = analysis.groups()
    _told(json.loads(page.with_suffix(".json").read_text()))
    done = time.perf_counter()
    print(f"{(done - started) / 60:.1f} minutes in all, {(done - trained) / 60:.1f} of them to measure;")
    print(
        f"{jobs} processes of one thread, load of this machine {os.getloadavg()[1]:.1f}; aim: {AIM} minutes"
    )


def _told(found: dict[str, Any]) -> None:
    """Means over seeds, and what of their differences from the first tagger is resolved."""
    figures = [name for name in TOLD if name in found["figures"]]
    taggers = list(found["taggers"])
    print(f"{'':18}" + "".join(f"{name:>24}" for name in figures))
    for name in taggers:
        over = [found["taggers"][name]["over_seeds"][figure] for figure in figures]
        print(f"{name:18}" + "".join(f"{_spread(one):>24}" for one in over))
    floors = [found["floors"].get(figure) for figure in figures]
    print(
        f"{'exact posterior':18}"
        + "".join(f"{one['value'] if one else float('nan'):24.4f}" for one in floors)
    )
    print("Against", taggers[0], "(difference, p by Wilcoxon, Holm-adjusted over all pairs):")
    for figure in figures:
        for one in found["differences"][figure]:
            if taggers[0] in (one["first"], one["second"]):
                sign = "resolved" if one["resolved"] else "not resolved"
                value = f"{one['value']['value']:+.4f}"
                pair = f"{one['first']} - {one['second']}"
                print(f"  {FIGURES[figure].title:38} {pair:28} {value:>10}  p {one['p_holm']:.2g}: {sign}")


def _spread(one: dict[str, Any]) -> str:
    return f"{one['mean']:.4f} +- {one['std'] or 0:.4f}"


if __name__ == "__main__":
    typer.run(main)
