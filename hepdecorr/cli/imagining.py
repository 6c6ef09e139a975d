"""Has a tagger that decodes make jets, and writes beside true ones what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hepdecorr.cli import show
from hepdecorr.cli.stamps import command, versions
from hepdecorr.config import Config
from hepdecorr.errors import InputError
from hepdecorr.table import Selection, Table
from hepdecorr.validation.imagined import GENERATED, IMAGE, RECONSTRUCTED, TRUE, ImaginedInput, write_imagined
from hepdecorr.validation.measures.likeness import Sample

JETS = "jets.npz"


def decoding(models: Mapping[str, Path]) -> dict[str, Path]:
    """Those of the taggers (TAGGER-SEED -> folder) that have a decoder; InputError where none has."""
    from hepdecorr.columnar.imagining import FILE

    found = {name: folder for name, folder in models.items() if (folder / FILE).is_file()}
    if not found:
        raise InputError(
            f"{', '.join(models)}: none has a decoder, {FILE}; a JetVAE leaves one beside its tagger.onnx"
        )
    return found


def write(
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
    """folder/{imagined.html, imagined.json, figures/, jets.npz} of one trained tagger; returns the page."""
    from hepdecorr.columnar import imagining
    from hepdecorr.columnar.images import PIXELS

    radius = float((config.objects_spec or {}).get("radius") or 1.0)
    with show.progress(console) as bars:
        task = bars.add_task(name, total=jets, note="makes jets")
        made = imagining.imagine(
            model,
            table,
            select=Selection("test", config.table_split, label=0),
            jets=jets,
            seed=seed,
            base=config.base,
            advance=show.Advance(bars, task),
        )
        generator = imagining.Generator(model).card
        kinds = {TRUE: made.true, RECONSTRUCTED: made.reconstructed, GENERATED: made.generated}
        bars.update(task, total=len(kinds) + 1, completed=0, note="looks at them")
        samples = {}
        for kind, p in kinds.items():
            samples[kind] = _samples(*imagining.observables(p, radius=radius), made.weight)
            bars.advance(task)
        bars.update(task, note="measures")
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            folder / JETS,
            allow_pickle=False,
            weight=made.weight,
            **{kind: p.astype(np.float32) for kind, p in kinds.items()},
        )
        page = write_imagined(
            folder,
            ImaginedInput(
                title=config.title or config.name,
                tagger=name,
                samples=samples,
                pixels=PIXELS,
                radius=radius,
                length=generator.length,
                boost=generator.boost,
                seed=seed,
                how=told(generator, made.softest),
                about={"generator": generator.model_dump(), "softest_gev": made.softest},
                command=command(),
                config_text=config.text + "".join(f"\n# --set {o}" for o in config.overrides),
                versions=versions(),
            ),
        )
        bars.advance(task)
    return page


def told(generator: Any, softest: float) -> Sequence[str]:
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
        f"In all three kinds constituents count as massless, those of less than {softest:.3g} GeV of pT as "
        "none, and a jet is the sum of its constituents."
    )
    return [f"{prior}. {back} Reconstructed jets go back the way they came.", counted]


def _samples(jets: Mapping[str, Any], parts: Mapping[str, Any], owner: Any, weight: Any) -> dict[str, Sample]:
    """The observables of the page."""
    found = {name: Sample.of_jets(values, weight) for name, values in jets.items()}
    found["constituent_pt"] = Sample.of_parts(parts["pt"], owner, weight)
    return found | {IMAGE: Sample.of_parts(parts["pixel"], owner, weight, parts["share"])}
