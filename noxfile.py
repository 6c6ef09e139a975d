"""Sessions: `nox -s demo` runs the main job on the built-in sample, `nox -s tests` passes the tests."""

from __future__ import annotations

import nox

nox.options.sessions = ["tests"]
nox.options.reuse_existing_virtualenvs = True

# The pinned versions with which the project was last seen to pass; pyproject states the honest ranges.
INSTALL = ("-c", "constraints.txt", "-e", ".[all]")
TEST = ("dcor", "hypothesis", "pytest")
LINT = ("mypy", "ruff", "types-PyYAML")
PEERS = ("hep_ml", "modeloss", "pythae", "POT")


@nox.session
def demo(session: nox.Session) -> None:
    """From ROOT files to the sculpting report on the built-in sample: a few minutes on two cores."""
    session.install(*INSTALL)
    config = "analysis_configs/bsgamma.yaml"
    session.run("hepdecorr", "run", config, "--only", "plain", "--only", "disco", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Style, types and tests; arguments behind `--` go to pytest."""
    session.install(*INSTALL, *TEST, *LINT)
    if not session.posargs:
        session.run("ruff", "check", ".")
        session.run("ruff", "format", "--check", ".")
        session.run("mypy")
    session.run("pytest", *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Speeds, each as a ratio to a peer in one run."""
    session.install(*INSTALL, *TEST, *PEERS)
    names = session.posargs or [
        "features",
        "onnx_tagger",
        "training_step",
        "total_correlation",
        "pythae_step",
        "constituents",
        "jet_chain",
        "anomaly_training",
        "anomaly_scores",
    ]
    for name in names:
        session.run("python", f"benchmarks/{name}.py")
