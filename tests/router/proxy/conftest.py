"""Fixtures of the tests of the proxy."""

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which adapters are declared; their sources are made beside it."""
    path = tmp_path / "adapters"
    path.mkdir()
    return path
