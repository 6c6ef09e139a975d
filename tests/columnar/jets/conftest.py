"""Fixtures of the jets: one physics in every layout, and how coffea opens it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from coffea.nanoevents import BaseSchema, NanoAODSchema, NanoEventsFactory, PFNanoAODSchema

from hepdecorr.catalogue import load_file

SCHEMAS = {"NanoAODSchema": NanoAODSchema, "PFNanoAODSchema": PFNanoAODSchema, "BaseSchema": BaseSchema}


@pytest.fixture(scope="session")
def jets() -> ModuleType:
    return load_file(Path(__file__).with_name("making_jets.py"))


@pytest.fixture(scope="session")
def made(jets: ModuleType) -> dict[str, Any]:
    return jets.physics(40, seed=3)


@pytest.fixture(scope="session")
def files(
    jets: ModuleType, made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """One file for each layout."""
    folder = tmp_path_factory.mktemp("layouts")
    return {layout: jets.write(folder / f"{layout}.root", made, layout=layout) for layout in jets.LAYOUTS}


@pytest.fixture(scope="session")
def opened() -> Callable[..., Any]:
    """`opened(path, schema="PFNanoAODSchema", mode="virtual")` -> events."""

    def open_(path: Path, *, schema: str = "NanoAODSchema", mode: str = "virtual", **more: Any) -> Any:
        with warnings.catch_warnings():
            # coffea tells of every cross-reference that a file has not
            warnings.filterwarnings("ignore", message="Missing cross-reference|.*already exists")
            factory = NanoEventsFactory.from_root(
                {str(path): "Events"}, schemaclass=SCHEMAS[schema], mode=mode, **more
            )
            return factory.events()

    return open_
