"""The trained tiny model, made once for each version of its recipe and kept in the user's cache."""

from pathlib import Path

import pytest

from serving.tiny import ensure_tiny_model
from serving.tiny.evaluate import TinyModel


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    return ensure_tiny_model()


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> TinyModel:
    return TinyModel(tiny_folder)
