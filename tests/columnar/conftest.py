"""Fixtures of the columnar room."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from hepdecorr.catalogue import load_file


@pytest.fixture(scope="session")
def making() -> ModuleType:
    return load_file(Path(__file__).with_name("making.py"))


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory, making: ModuleType) -> Path:
    """A user's folder with my_features.py and my_processors.py."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "my_features.py").write_text(making.MY_FEATURES)
    (folder / "my_processors.py").write_text(making.MY_PROCESSORS)
    return folder


@pytest.fixture(scope="session")
def processors(code: Path) -> ModuleType:
    return load_file(code / "my_processors.py")
