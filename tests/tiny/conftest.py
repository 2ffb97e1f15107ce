"""The trained tiny models."""

from pathlib import Path

import pytest

from serving.tiny import PRESETS, tiny_model_folder
from serving.tiny.evaluate import TinyModel


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    return tiny_model_folder()


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> TinyModel:
    return TinyModel(tiny_folder)


@pytest.fixture(scope="session", params=["2501", "magistral"])
def text_model(request: pytest.FixtureRequest) -> TinyModel:
    """A tiny model without vision."""
    return TinyModel(tiny_model_folder(request.param), PRESETS[request.param])


@pytest.fixture(scope="session")
def tiny_magistral() -> TinyModel:
    return TinyModel(tiny_model_folder("magistral"), PRESETS["magistral"])
