"""The table of reference 0 on a large sample: AUC, JSD and MIG of six taggers with several seeds each.

    hepdecorr table analysis_configs/bsgamma.yaml --set samples.datasets=... --set output=FOLDER
    python benchmarks/representations.py --table FOLDER/table --out results/representations

The table is made from the files of sculpting.py, or any others with parts that train and parts that test.
Training sees the training part alone; the test part is read once for each tagger, to measure it.  What is
finished is skipped the next time.  JSD in nats, 50 bins, of background that passes and that fails a cut;
MIG on validation background.  Differences are those of the same seed, with Student's interval over the seeds;
p-values are Holm-adjusted, of sculpting over a tagger's rejections, of differences over the rows.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from scipy import stats

from hepdecorr.cli.checks import method_spec
from hepdecorr.config import load
from hepdecorr.learning import Events, Layout, fitting
from hepdecorr.learning.methods.revealing import gap
from hepdecorr.table import Selection, Split, Table
from hepdecorr.validation.measures import auc, holm, over_seeds, sculpting, signal_efficiency

CONFIG = Path(__file__).parents[1] / "analysis_configs" / "bsgamma_representations.yaml"
REJECTIONS = (0.5, 0.9, 0.95, 0.99, 0.995)
RANGE, BINS = (5.20, 5.29), 50

Figures = dict[str, Any]


def main(
    table: Annotated[Path, typer.Option(help="Folder of the training table.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results/representations"),
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "1,2,3,4,5",
    jobs: Annotated[int, typer.Option(help="Taggers trained at the same time.")] = 2,
    only: Annotated[list[str] | None, typer.Option(help="Only this tagger; repeatable.")] = None,
    against: Annotated[str, typer.Option(help="The row that others are compared with.")] = "sensitive",
) -> None:
    """Train and measure what is missing, print the table of what is there."""
    taggers = load(CONFIG).taggers
    names = [name for name in taggers if not only or name in only]
    out.mkdir(parents=True, exist_ok=True)
    wanted = [(name, int(seed)) for seed in seeds.split(",") for name in names]
    missing = [one for one in wanted if not _file(out, *one).is_file()]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_measure, table, _file(out, *one), *one): one for one in missing}
        for future in as_completed(running):
            print(*running[future], f"{future.result():.0f} CPU-s", flush=True)
    found = {
        name: [json.loads(_file(out, name, seed).read_text()) for n, seed in wanted if n == name]
        for name in names
    }
    titles = {name: str(taggers[name]["title"]) for name in names}
    _print_table(found, titles)
    if against in found and len(found[against]) > 1:
        _print_differences(found, titles, against)


def _file(out: Path, name: str, seed: int) -> Path:
    return out / f"{name}-{seed}.json"


def _measure(folder: Path, file: Path, name: str, seed: int) -> float:
    """Train one tagger, measure it, write its figures; returns the CPU-seconds of the training."""
    torch.set_num_threads(1)
    config, table = load(CONFIG), Table.open(folder)
    split: Split = config.table_split
    spec = method_spec(config.taggers[name])
    start = time.process_time()
    trained = fitting.train(spec, table=table, split=split, seed=seed, device="cpu", base=config.base)
    seconds = time.process_time() - start
    revealed = gap(trained.method.reveal(trained.data.validation.all))
    test = Events.from_table(table, Layout.of(table), select=Selection("test", split)).all
    logit, label = fitting.logits(trained.method, test).astype(np.float64), test.y.numpy()
    background = label == 0
    m_bc = test.z[background, 0].numpy().astype(np.float64)
    points = [
        sculpting(logit[background], m_bc, range=RANGE, bins=BINS, rejection=r, seed=1000 * k)
        for k, r in enumerate(REJECTIONS)
    ]
    figures: Figures = {
        "auc": auc(logit, label).value,
        "background": int(background.sum()),
        "efficiency": [signal_efficiency(logit, label, rejection=r).efficiency.value for r in REJECTIONS],
        "jsd": [p.jsd.value for p in points],
        "floor": [p.floor for p in points],
        "excess": [p.excess for p in points],
        "upper": [p.excess_upper for p in points],
        "p": holm([p.p_value for p in points]),
        "mig": revealed.get("mig", {}).get("value"),
        "seconds": seconds,
        "stable": trained.stable,
    }
    part = file.with_suffix(".part")
    part.write_text(json.dumps(figures) + "\n")
    part.replace(file)
    return seconds


def _print_table(found: dict[str, list[Figures]], titles: dict[str, str]) -> None:
    first = next(iter(found.values()))[0]
    print(f"{first['background']:,} test background events; JSD in nats, {BINS} bins, at 99.5 % rejection:")
    print(f"floor {first['floor'][-1]:.4f}.  Mean +- standard deviation over the seeds.")
    for name, seeds in found.items():
        gaps = [one["mig"] for one in seeds if one["mig"] is not None]
        gap = spread(gaps, digits=3) if gaps else "-"
        jsd = spread([one["jsd"][-1] for one in seeds], digits=4)
        print(
            f"{titles[name]}, {len(seeds)} seeds: AUC {spread([s['auc'] for s in seeds], digits=4)}, "
            f"JSD {jsd}, MIG {gap}"
        )
        for k, rejection in enumerate(REJECTIONS):
            p = ", ".join(f"{one['p'][k]:.3f}" for one in seeds)
            excess = spread([one["excess"][k] for one in seeds], digits=5)
            efficiency = spread([one["efficiency"][k] for one in seeds], digits=3)
            upper = max(one["upper"][k] for one in seeds)
            print(
                f"  rejection {rejection:5}: signal efficiency {efficiency}, excess {excess}, largest upper "
                f"limit {upper:.5f}, Holm p by seed {p}"
            )


def _print_differences(found: dict[str, list[Figures]], titles: dict[str, str], against: str) -> None:
    """Paired by seed, row minus the row that is compared with; 95 % intervals of Student's t."""
    print(f"differences from {titles[against]}, same seed, 95 % interval, Holm-adjusted p:")
    for column in ("AUC", "JSD", "MIG"):
        rows = {}
        for name, seeds in found.items():
            pairs = [
                (_figure(column, a), _figure(column, b)) for a, b in zip(seeds, found[against], strict=True)
            ]
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


def spread(values: list[float], *, digits: int) -> str:
    """Mean +- standard deviation."""
    found = over_seeds(values)
    return f"{found.mean:.{digits}f} +- {found.std or 0:.{digits}f}"


def _figure(column: str, one: Figures) -> Any:
    return one["jsd"][-1] if column == "JSD" else one[column.lower()]


if __name__ == "__main__":
    typer.run(main)
