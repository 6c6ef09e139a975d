"""Fixtures of the processors: what they are made of is the columnar room's."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from hepdecorr.catalogue import load_file


@pytest.fixture(scope="session")
def making() -> ModuleType:
    return load_file(Path(__file__).parents[1] / "columnar" / "making.py")


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory, making: ModuleType) -> Path:
    """A user's folder with my_features.py."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "my_features.py").write_text(making.MY_FEATURES)
    return folder
