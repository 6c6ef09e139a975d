"""The main job through the command line, on a part of the built-in sample."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import uproot

from hepdecorr import OnnxTagger, Table
from hepdecorr.samples import builtin

ROOT = Path(__file__).parents[1]

CONFIG = """\
name: small
output: out
models: models
samples:
  schema: BsgammaSchema
  datasets:
    signal: {files: signal.root, label: signal}
    continuum: {files: [continuum_0.root, continuum_1.root], label: background}
features: [delta_e, e_star_gamma, cos_kst_gamma, cos_tbto, r2, thrust_o, cos_theta_b]
nuisances:
  m_bc: {low: 5.2, high: 5.29, bins: 20}
working_points: [0.5, 0.9]
taggers:
  plain: {type: Tagger, training: {epochs: 6, batch: 256}}
  disco: {type: Tagger, terms: [{type: DisCo, nuisance: m_bc}], training: {epochs: 6, batch: 1024}}
running: {chunksize: 1500}
"""


def hepdecorr(*arguments: str | Path, cwd: Path, code: int = 0) -> str:
    """Run the command and return what it printed, whitespace folded."""
    command = [sys.executable, "-m", "hepdecorr.cli.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return re.sub(r"\s+", " ", done.stdout + done.stderr)


def cut_out(name: str, path: Path, *, start: int, stop: int) -> None:
    """Copy some entries of a built-in file."""
    with uproot.open(builtin()[name]) as file:
        tree = file["Events"]
        counts = ("nTrack", "nPhoton")
        jagged = {
            c[1:]: tree.arrays(filter_name=f"{c[1:]}_*", entry_start=start, entry_stop=stop) for c in counts
        }
        flat = [b for b in tree.keys() if b not in counts and not b.startswith(("Track_", "Photon_"))]
        content = dict(tree.arrays(flat, entry_start=start, entry_stop=stop, library="np"))
    import awkward as ak

    for collection, arrays in jagged.items():
        content[collection] = ak.zip({f.removeprefix(f"{collection}_"): arrays[f] for f in arrays.fields})
    with uproot.recreate(path) as out:
        out.mktree(
            "Events",
            {k: v.dtype if isinstance(v, np.ndarray) else v.type.content for k, v in content.items()},
        )
        out["Events"].extend(content)


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small datasets and a config."""
    folder = tmp_path_factory.mktemp("analysis")
    cut_out("bsgamma_signal.root", folder / "signal.root", start=0, stop=3000)
    cut_out("bsgamma_continuum.root", folder / "continuum_0.root", start=0, stop=4000)
    cut_out("bsgamma_continuum.root", folder / "continuum_1.root", start=4000, stop=8000)
    processors = ROOT / "processors"
    section = f"processors:\n  table: {processors}/training_table.py:TrainingTable\n"
    section += f"  evaluate: {processors}/sculpting.py:Sculpting\n"
    (folder / "small.yaml").write_text(CONFIG + section)
    return folder


@pytest.fixture(scope="module")
def finished(analysis: Path) -> Path:
    """The same after `hepdecorr run`."""
    printed = hepdecorr("run", "small.yaml", cwd=analysis)
    assert "complete: 11,000 of 11,000 events from 3 files" in printed
    return analysis


def test_everything_is_there(finished: Path) -> None:
    table = Table.open(finished / "out" / "table")
    assert table.rows == 11_000
    for name in ("small-plain-1", "small-disco-1"):
        assert sorted(p.name for p in (finished / "models" / name).iterdir()) == ["card.yaml", "tagger.onnx"]
    report = finished / "out" / "report"
    html = (report / "report.html").read_text()
    assert "M_{bc}" in html or "m_bc" in html
    assert not re.findall(r"(?:src|href)=[\"']https?:", html)
    assert list((report / "figures").glob("*.pdf"))
    assert list((report / "figures").glob("*.png"))
    assert not [p for p in finished.rglob("*") if ".part" in p.name]


def test_the_figures_are_those_of_events_the_training_never_saw(finished: Path) -> None:
    """Computed again from the tagger and the ROOT files, by other means."""
    from scipy.stats import rankdata

    metrics = json.loads((finished / "out" / "report" / "metrics.json").read_text())
    scores = Table.open(finished / "out" / "evaluation" / "scores")
    events = scores.read()
    assert set(events["fold"].tolist()) == {5, 6, 7, 8, 9}
    logit, y = events["plain-1"].astype(float), events["label"] == 1
    ranks = rankdata(logit)
    auc = (ranks[y].sum() - y.sum() * (y.sum() + 1) / 2) / (y.sum() * (~y).sum())
    assert auc > 0.95
    told = metrics["taggers"]["plain"][0]
    assert told["auc"]["value"] == pytest.approx(auc, abs=1e-9)
    cut = np.quantile(logit[~y], 0.9)
    assert told["signal_efficiency"][1]["efficiency"]["value"] == pytest.approx(
        (logit[y] > cut).mean(), abs=2e-3
    )


def test_the_tagger_gives_in_an_analysis_what_the_evaluation_wrote(finished: Path) -> None:
    from coffea.nanoevents import NanoEventsFactory

    from hepdecorr.columnar.schemas import BsgammaSchema

    tagger = OnnxTagger(finished / "models" / "small-disco-1")
    events = NanoEventsFactory.from_root(
        {str(finished / "signal.root"): "Events"}, schemaclass=BsgammaSchema
    ).events()
    found = dict(
        zip(np.asarray(events.event).tolist(), np.asarray(tagger.logit(events)).tolist(), strict=True)
    )
    scores = Table.open(finished / "out" / "evaluation" / "scores").read(["event", "label", "disco-1"])
    own = scores["label"] == 1
    np.testing.assert_allclose(
        [found[e] for e in scores["event"][own].tolist()], scores["disco-1"][own], rtol=1e-5, atol=1e-5
    )


def test_a_second_run_does_nothing_and_a_change_only_what_it_must(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*.onnx")}
    printed = hepdecorr("run", "small.yaml", cwd=finished)
    assert printed.count("finished already") == 5
    changed = hepdecorr(
        "train",
        "small.yaml",
        "--set",
        "taggers.plain.training.epochs=2",
        "--set",
        "models=other",
        cwd=finished,
    )
    assert "small-plain-1 in" in changed
    assert {p: p.stat().st_mtime_ns for p in (finished / "models").rglob("*.onnx")} == before


def test_inspect(finished: Path) -> None:
    assert "Bcand_mbc" in hepdecorr("inspect", "signal.root", cwd=finished)
    table = hepdecorr("inspect", "out/table", cwd=finished)
    assert "m_bc nuisance GeV" in table
    assert "continuum background all 8,000" in table
    tagger = hepdecorr("inspect", "models/small-disco-1", cwd=finished)
    assert "tagger small-disco-1" in tagger
    assert "m_bc in [5.2, 5.29] GeV" in tagger


def test_a_killed_training_goes_on(analysis: Path, finished: Path, tmp_path: Path) -> None:
    """The tagger of a run that was killed and started again is the tagger of one that was not."""
    settings = ["--set", "taggers.plain.training.epochs=40", "--only", "plain"]
    outputs = ["--set", f"models={tmp_path}"]
    command = [sys.executable, "-m", "hepdecorr.cli.main", "train", "small.yaml", *settings, *outputs]
    work = analysis / "out" / "training" / "small-plain-1" / "checkpoints"
    process = subprocess.Popen(command, cwd=analysis, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(work.rglob("*.pt")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(work.rglob("*.pt")), "killed before its first checkpoint"
    assert not list(tmp_path.rglob("tagger.onnx")), "killed after its end"
    hepdecorr(*command[3:], cwd=analysis)
    resumed = OnnxTagger(tmp_path / "small-plain-1")
    hepdecorr(*command[3:-1], f"models={tmp_path / 'whole'}", "--redo", cwd=analysis)
    whole = OnnxTagger(tmp_path / "whole" / "small-plain-1")
    x = np.random.default_rng(1).random((500, len(whole.feature_names)), dtype=np.float32)
    np.testing.assert_array_equal(resumed.logits(x), whole.logits(x))


def test_an_interrupted_step_says_how_to_go_on(analysis: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "hepdecorr.cli.main",
        "train",
        "small.yaml",
        "--set",
        f"models={tmp_path}",
    ]
    command += ["--set", "taggers.plain.training.epochs=4000", "--only", "plain"]
    hepdecorr("table", "small.yaml", cwd=analysis)
    process = subprocess.Popen(
        command,
        cwd=analysis,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # Tests that run in the background of a shell ignore interrupts, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    work = analysis / "out" / "training" / "small-plain-1" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(work.rglob("*.pt")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    begin = time.monotonic()
    # Python drops an interrupt that arrives within a finaliser: one presses Ctrl-C again.
    while process.poll() is None and time.monotonic() < begin + 60:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
    process.kill()
    _, printed = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on" in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["features=[r2, cos_tbt]"], r"features\.1.*'cos_tbt'.*did you mean 'cos_tbto'"),
        (["taggers.plain.type=Tager"], r"taggers\.plain.*no 'Tager'.*did you mean 'Tagger'"),
        (["taggers.disco.terms.0.type=Disco"], r"taggers\.disco.*no 'Disco'.*did you mean 'DisCo'"),
        (["taggers.disco.terms.0.strenth=3"], r"taggers\.disco.*'strenth'.*did you mean 'strength'"),
        (["taggers.plain.network={type: MLP, hidden: 3}"], r"taggers\.plain.*widths of layers .* not 3"),
        (["taggers.disco.terms.0.strength=strong"], r"taggers\.disco.*'strong'"),
        (["samples.datasets.signal.files=absent.root"], r"no file absent\.root"),
        (["samples.datasets.signal.files=absent*.root"], r"no file matches absent"),
        (["samples.tree=Evens"], r"(signal|continuum_0)\.root.*Evens"),
        (["nuisances.m_bc.feature=Bcand.mbcc"], r"Bcand\.mbcc"),
        (["processors.table=absent.py:X"], r"processors\.table.*absent\.py"),
        (["selection=[{feature: m_bc, min: 6}]"], r"no event is left"),
    ],
)
def test_mistakes_are_named(analysis: Path, tmp_path: Path, change: list[str], message: str) -> None:
    sets = [a for c in [*change, f"output={tmp_path / 'out'}"] for a in ("--set", c)]
    printed = hepdecorr("run", "small.yaml", *sets, cwd=analysis, code=2)
    assert re.search(message, printed), printed
    assert not list(tmp_path.rglob("manifest.json"))


@pytest.mark.parametrize("fault", ["empty", "truncated", "text"])
def test_bad_files_are_named_or_left_out(analysis: Path, tmp_path: Path, fault: str) -> None:
    good = (analysis / "continuum_1.root").read_bytes()
    bad = tmp_path / "bad.root"
    bad.write_bytes(
        {"empty": b"", "truncated": good[: len(good) // 2], "text": b"no ROOT file " * 100}[fault]
    )
    sets = ["--set", f"output={tmp_path / 'out'}", "--set", f"samples.datasets.continuum.files.1={bad}"]
    assert "bad.root" in hepdecorr("table", "small.yaml", *sets, cwd=analysis, code=2)
    assert not list(tmp_path.rglob("manifest.json"))
    printed = hepdecorr("table", "small.yaml", *sets, "--set", "running.skip_bad_files=true", cwd=analysis)
    assert "incomplete" in printed
    assert "bad.root" in printed
    provenance = Table.open(tmp_path / "out" / "table").provenance
    assert [Path(u["file"]).name for u in provenance["completeness"]["unreadable"]] == ["bad.root"]


def test_verbs_say_what_is_missing_before_them(analysis: Path, tmp_path: Path) -> None:
    for verb, missing in (("train", "table"), ("evaluate", "train"), ("report", "evaluate")):
        printed = hepdecorr(
            verb,
            "small.yaml",
            "--set",
            f"output={tmp_path}",
            "--set",
            f"models={tmp_path}",
            cwd=analysis,
            code=2,
        )
        assert f"hepdecorr {missing} small.yaml" in printed


def test_steps_refuse_what_an_earlier_one_made_of_another_config(
    analysis: Path, finished: Path, tmp_path: Path
) -> None:
    for name in ("out", "models"):
        shutil.copytree(finished / name, tmp_path / name)
    outputs = ["--set", f"output={tmp_path / 'out'}", "--set", f"models={tmp_path / 'models'}"]
    fewer = [*outputs, "--set", "features=[r2, cos_tbto]"]
    for verb in ("train", "evaluate"):
        printed = hepdecorr(verb, "small.yaml", *fewer, cwd=analysis, code=2)
        assert "other features" in printed
    cut = [*outputs, "--set", "selection=[{feature: m_bc, min: 5.21}]"]
    assert "another config" in hepdecorr("report", "small.yaml", *cut, cwd=analysis, code=2)
    model = tmp_path / "models" / "small-plain-1" / "tagger.onnx"
    shutil.copy(tmp_path / "models" / "small-disco-1" / "tagger.onnx", model)
    printed = hepdecorr("report", "small.yaml", *outputs, cwd=analysis, code=2)
    assert "plain-1 has been trained again" in printed


def test_a_failed_table_leaves_no_manifest_and_a_damaged_one_is_made_again(
    analysis: Path, tmp_path: Path
) -> None:
    outputs = ["--set", f"output={tmp_path / 'out'}", "--set", "running.executor=iterative"]
    manifest = tmp_path / "out" / "table" / "manifest.json"
    hepdecorr("table", "small.yaml", *outputs, cwd=analysis)
    manifest.write_text("{")
    assert "complete: 11,000" in hepdecorr("table", "small.yaml", *outputs, cwd=analysis)
    nothing = [*outputs, "--set", "selection=[{feature: m_bc, min: 6}]"]
    hepdecorr("table", "small.yaml", *nothing, cwd=analysis, code=2)
    assert not manifest.exists()


def test_an_output_that_is_no_folder_is_named(analysis: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    printed = hepdecorr("table", "small.yaml", "--set", f"output={tmp_path / 'taken'}", cwd=analysis, code=2)
    assert "taken: cannot be made" in printed


def test_init_makes_a_working_copy(tmp_path: Path) -> None:
    hepdecorr("init", "mine", cwd=tmp_path)
    assert (tmp_path / "mine" / "processors" / "sculpting.py").is_file()
    copied = {path.name for path in (tmp_path / "mine" / "analysis_configs").iterdir()}
    assert copied == {path.name for path in (ROOT / "analysis_configs").iterdir()}
    assert {"hbb.yaml", "hmumu.yaml"} <= copied
    hepdecorr("init", "mine", cwd=tmp_path, code=2)
    printed = hepdecorr(
        "train",
        "mine/analysis_configs/bsgamma.yaml",
        "--set",
        f"output={tmp_path / 'out'}",
        cwd=tmp_path,
        code=2,
    )
    assert "no finished table" in printed
