"""The shipped configs of H -> mu mu and H -> b b: their table step, on samples made and on real NanoAOD."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from hepdecorr import Table
from hepdecorr.cli.main import main
from hepdecorr.samples import find_sample
from hepdecorr.samples.lhc.generation import Options

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data" / "nano_tt_v15.root"


@pytest.fixture(autouse=True)
def quiet_schemas(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """coffea's schemas without the warnings of the collections that are not there."""
    from coffea.nanoevents import NanoAODSchema

    monkeypatch.setattr(NanoAODSchema, "warn_missing_crossrefs", False)
    return


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A few events of each process."""
    for extra in ("pythia8mc", "fastjet"):
        pytest.importorskip(extra, reason="the extra `samples` is not installed")
    folder = tmp_path_factory.mktemp("data")
    made = {}
    for sample, counts in {
        "hbb": {"zh": 200, "zbb": 600, "zz": 200},
        "hmumu": {"signal": 80, "dy": 200},
    }.items():
        for process, events in counts.items():
            out = folder / f"{sample}_{process}.root"
            find_sample(sample).generate(process, out=out, events=events, seed=8, options=Options(mpi=False))
            made[process] = out
    return made


def nanoaod(path: Path) -> Path:
    """NanoAOD as CMS writes it, of six events: no muon, one, two alike, two opposite, soft ones, three."""
    pts = [[], [40.0], [50.0, 30.0], [70.0, 55.0], [30.0, 8.0], [70.0, 52.0, 12.0]]
    charges = [[], [1], [1, 1], [1, -1], [1, -1], [-1, 1, 1]]
    counts = [len(x) for x in pts]
    n = sum(counts)
    muons = {
        "pt": np.concatenate(pts).astype(np.float32),
        "eta": np.full(n, 0.1, np.float32),
        "phi": np.concatenate([np.array([0.0, 3.1, 1.5], np.float32)[:k] for k in counts]),
        "mass": np.full(n, 0.1056584, np.float32),
        "pfRelIso04_all": np.full(n, 0.02, np.float32),
        "charge": np.concatenate(charges).astype(np.int32),
        "mediumId": np.ones(n, bool),
    }
    jets = {
        name: np.full(3, value, np.float32)
        for name, value in {"pt": 60, "eta": -1, "phi": 2, "mass": 9}.items()
    }
    columns = {
        "run": np.ones(6, np.uint32),
        "luminosityBlock": np.ones(6, np.uint32),
        "event": np.arange(6, dtype=np.uint64),
        "genWeight": np.ones(6, np.float32),
        "PuppiMET_pt": np.full(6, 20.0, np.float32),
        "PuppiMET_phi": np.zeros(6, np.float32),
        "Muon": ak.unflatten(ak.zip(muons), counts),
        "Jet": ak.unflatten(ak.zip(jets), [0, 0, 0, 2, 0, 1]),
    }
    with uproot.recreate(path) as file:
        tree = file.mktree(
            "Events", {k: v.type.content if isinstance(v, ak.Array) else v.dtype for k, v in columns.items()}
        )
        tree.extend(columns)
    return path


def table(
    config: str, given: dict[str, Path], *sets: str, out: Path, monkeypatch: pytest.MonkeyPatch, code: int = 0
) -> Table | None:
    """What `hepdecorr table` makes of these files."""
    changes = [f"samples.datasets.{name}.files={path}" for name, path in given.items()]
    changes += [f"output={out}", "running.executor=iterative", *sets]
    words = ["hepdecorr", "table", str(ROOT / "analysis_configs" / f"{config}.yaml")]
    monkeypatch.setattr(sys, "argv", [*words, *(word for change in changes for word in ("--set", change))])
    with pytest.raises(SystemExit) as left:
        main()
    assert int(left.value.code or 0) == code
    return None if code else Table.open(out / "table")


def test_h_to_b_b(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {name: files[name] for name in ("zh", "zbb", "zz")}
    made = table("hbb", given, out=tmp_path, monkeypatch=monkeypatch)
    rows = made.read()
    assert made.names("feature") == ["met", "pt_b1", "pt_b2", "dr_bb", "deta_bb", "dphi_met_bb"]
    signal = rows["label"] == 1
    assert np.median(rows["m_bb"][signal]) == pytest.approx(107, abs=8)
    # The backgrounds add up to their cross-sections, up to what the selection takes.
    total = rows["weight"][~signal].sum()
    assert 0.4 * (0.335 + 0.0113) < total < 0.335 + 0.0113


def test_h_to_mu_mu(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {name: files[name] for name in ("signal", "dy")}
    made = table("hmumu", given, out=tmp_path, monkeypatch=monkeypatch)
    rows = made.read()
    assert len(made.names("feature")) == 16
    assert np.median(rows["m_mumu"][rows["label"] == 1]) == pytest.approx(124.8, abs=0.8)
    assert made.datasets["dy"]["cutflow"]["all"] > made.datasets["dy"]["rows"] > 0


def test_events_of_nanoaod_without_a_pair_are_cut_and_counted(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"signal": files["signal"], "dy": nanoaod(tmp_path / "nano.root")}
    made = table("hmumu", given, out=tmp_path, monkeypatch=monkeypatch)
    flow = made.datasets["dy"]["cutflow"]
    assert list(flow.items())[:2] == [("all", 6), ("110 <= m_mumu < 150", 2)]
    assert made.datasets["dy"]["rows"] == 2
    rows = made.read()
    assert rows["n_jets"][rows["label"] == 0].tolist() == [2, 1]


def test_a_dataset_without_any_pair_is_named_with_its_cutflow(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    given = {"signal": files["signal"], "dy": nanoaod(tmp_path / "nano.root")}
    table("hmumu", given, "selection.1.min=90", out=tmp_path, monkeypatch=monkeypatch, code=2)
    told = " ".join(capfd.readouterr().err.split())
    assert "dataset 'dy': no event is left (all: 6, 110 <= m_mumu < 150: 2, 90 <= pt_mu1: 0" in told


def test_the_file_of_cms_comes_in_by_the_same_lines(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 events of t tbar: a few have a pair, none of them in the window of mass."""
    if not REAL.is_file():
        pytest.skip("../shared/data/nano_tt_v15.root is not there; the made file above stands for it")
    given = {"signal": files["signal"], "dy": REAL}
    pairs = "selection=[{feature: has_mumu, min: 1}]"
    made = table("hmumu", given, pairs, out=tmp_path, monkeypatch=monkeypatch)
    assert made.datasets["dy"]["cutflow"]["all"] == 200
    assert 0 < made.datasets["dy"]["rows"] < 20
