"""Who may import whom, in a fresh interpreter: a worker has no torch, a training node no coffea."""

from __future__ import annotations

import subprocess
import sys

import pytest

HALVES = {"torch", "lightning_fabric", "coffea", "uproot", "onnxruntime"}


def imported(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import hepdecorr", HALVES | {"numpy", "matplotlib"}),
        ("import hepdecorr.card, hepdecorr.table, hepdecorr.config, hepdecorr.catalogue", HALVES),
        (
            "import hepdecorr.validation.measures, hepdecorr.validation.plots, hepdecorr.validation.report",
            HALVES,
        ),
        (
            "from hepdecorr.columnar import running, tagger, filesets, histograms, features, schemas",
            {"torch", "lightning_fabric", "onnxscript"},
        ),
        (
            "import hepdecorr.learning, hepdecorr.learning.methods, hepdecorr.learning.export",
            {"coffea", "uproot", "dask", "onnxruntime"},
        ),
        ("import hepdecorr.samples", HALVES | {"pythia8mc"}),
        ("from hepdecorr import OnnxTagger", {"torch", "lightning_fabric"}),
        ("import hepdecorr.cli.main", HALVES | {"matplotlib", "sklearn", "hist"}),
    ],
)
def test_a_room_does_not_pull_in_the_other_half(statement: str, forbidden: set[str]) -> None:
    assert not imported(statement) & forbidden


def test_public_names_are_there() -> None:
    import hepdecorr

    for name in hepdecorr.__all__:
        assert getattr(hepdecorr, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Tagger'"):
        hepdecorr.Tagger  # noqa: B018
