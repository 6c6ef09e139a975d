"""Has a tagger that decodes make jets, and writes beside true ones what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hepdecorr.config.schema import Config
from hepdecorr.errors import InputError
from hepdecorr.evaluation.metrics.two_sample import ObservableSample
from hepdecorr.evaluation.report.jet_generation import (
    GENERATED_JETS,
    IMAGE_OBSERVABLE,
    RECONSTRUCTED_JETS,
    TRUE_JETS,
    JetGenerationReport,
    write_jet_generation_report,
)
from hepdecorr.table import Selection, Table
from hepdecorr.workflow import progress
from hepdecorr.workflow.cache import command_line, library_versions

JETS_FILE = "jets.npz"


def find_models_with_decoder(models: Mapping[str, Path]) -> dict[str, Path]:
    """Those of the taggers (TAGGER-SEED -> folder) that have a decoder; InputError where none has."""
    from hepdecorr.columnar.jet_generation import GENERATOR_FILE

    found = {name: folder for name, folder in models.items() if (folder / GENERATOR_FILE).is_file()}
    if not found:
        raise InputError(
            f"{', '.join(models)}: none has a decoder, {GENERATOR_FILE}; "
            "a JetVAE leaves one beside its tagger.onnx"
        )
    return found


def run_jet_generation(
    config: Config,
    *,
    name: str,
    model: Path,
    folder: Path,
    table: Table,
    jets: int,
    seed: int,
    console: Console,
) -> Path:
    """Write the page, numbers, figures and jets of one trained tagger; return the page."""
    from hepdecorr.columnar import jet_generation
    from hepdecorr.columnar.jet_images import NUM_PIXELS

    radius = float((config.objects_spec or {}).get("radius") or 1.0)
    with progress.progress_bars(console) as bars:
        task = bars.add_task(name, total=jets, note="makes jets")
        made = jet_generation.sample_jets(
            model,
            table,
            select=Selection("test", config.table_split, label=0),
            num_jets=jets,
            seed=seed,
            base=config.base,
            report_progress=progress.TaskProgress(bars, task),
        )
        generator = jet_generation.OnnxJetGenerator(model).card
        kinds = {TRUE_JETS: made.true, RECONSTRUCTED_JETS: made.reconstructed, GENERATED_JETS: made.generated}
        bars.update(task, total=len(kinds) + 1, completed=0, note="looks at them")
        samples = {}
        for kind, p in kinds.items():
            samples[kind] = _observable_samples(
                *jet_generation.compute_observables(p, radius=radius), made.weight
            )
            bars.advance(task)
        bars.update(task, note="measures")
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            folder / JETS_FILE,
            allow_pickle=False,
            weight=made.weight,
            **{kind: p.astype(np.float32) for kind, p in kinds.items()},
        )
        page = write_jet_generation_report(
            folder,
            JetGenerationReport(
                title=config.title or config.name,
                tagger=name,
                samples=samples,
                num_pixels=NUM_PIXELS,
                radius=radius,
                length=generator.length,
                boost=generator.boost,
                seed=seed,
                description=describe_generation(generator, made.min_pt),
                metadata={"generator": generator.model_dump(), "softest_gev": made.min_pt},
                command=command_line(),
                config_text=config.text + "".join(f"\n# --set {o}" for o in config.overrides),
                versions=library_versions(),
            ),
        )
        bars.advance(task)
    return page


def describe_generation(generator: Any, min_pt: float) -> Sequence[str]:
    """How the jets were made, in sentences."""
    prior = f"Generated jets are decoded from {generator.latents} unit Gaussians"
    if generator.condition:
        prior += f", and told {', '.join(generator.condition)} of a true jet each"
    back = (
        "The decoder makes them at rest, where nothing tells how fast a jet flies: each takes orientation "
        "and momentum from a true jet, so that their pT spectrum is that of true jets by construction; their "
        "mass is their own."
        if generator.boost == "rest"
        else "Each takes its boost and its orientation from a true jet."
    )
    counted = (
        f"In all three kinds constituents count as massless, those of less than {min_pt:.3g} GeV of pT as "
        "none, and a jet is the sum of its constituents."
    )
    return [f"{prior}. {back} Reconstructed jets go back the way they came.", counted]


def _observable_samples(
    jets: Mapping[str, Any], constituents: Mapping[str, Any], jet_index: Any, weight: Any
) -> dict[str, ObservableSample]:
    """The observables of the page."""
    found = {name: ObservableSample.from_jets(values, weight) for name, values in jets.items()}
    found["constituent_pt"] = ObservableSample.from_constituents(constituents["pt"], jet_index, weight)
    return found | {
        IMAGE_OBSERVABLE: ObservableSample.from_constituents(
            constituents["pixel"], jet_index, weight, constituents["share"]
        )
    }
