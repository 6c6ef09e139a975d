#!/usr/bin/env -S uv run --script

# /// script
# dependencies = ["nox"]
# ///
"""Sessions: `nox -s demo` runs the main analysis on the built-in sample, `nox -s tests` runs the tests."""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"

# The pinned versions with which the project was last seen to pass; pyproject.toml states the ranges.
INSTALL = ("-c", "constraints.txt", "-e", ".[all]")
TEST = ("dcor", "hypothesis", "pytest")
LINT = ("mypy", "ruff", "types-PyYAML")
PEERS = ("hep_ml", "modeloss", "pythae", "POT")


@nox.session(venv_backend="virtualenv", default=False)
def demo(session: nox.Session) -> None:
    """Run the analysis of the built-in sample, from ROOT files to the report, in a few minutes."""
    session.install(*INSTALL)
    config = "analysis_configs/bsgamma.yaml"
    session.run("hepdecorr", "run", config, "--only", "plain", "--only", "disco", *session.posargs)


@nox.session(venv_backend="virtualenv")
def tests(session: nox.Session) -> None:
    """Check style and types and run the tests; arguments after `--` go to pytest."""
    session.install(*INSTALL, *TEST, *LINT)
    if not session.posargs:
        session.run("ruff", "check", ".")
        session.run("ruff", "format", "--check", ".")
        session.run("mypy")
    session.run("pytest", *session.posargs)


@nox.session(venv_backend="uv", default=False)
def minimums(session: nox.Session) -> None:
    """Run the tests with the lowest versions that pyproject.toml allows."""
    session.install("--resolution=lowest-direct", "-e", ".[all]", *TEST)
    session.run("pytest", *session.posargs)


@nox.session(venv_backend="virtualenv", default=False)
def benchmarks(session: nox.Session) -> None:
    """Measure speeds, each as a ratio to a peer in one run."""
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


if __name__ == "__main__":
    nox.main()
