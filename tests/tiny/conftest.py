"""The trained tiny models, made once for each version of their recipe and then cached."""

from pathlib import Path

import pytest

from serving.tiny import PRESETS, ensure_tiny_model
from serving.tiny.evaluate import TinyModel


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    return ensure_tiny_model()


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> TinyModel:
    return TinyModel(tiny_folder)


@pytest.fixture(scope="session", params=["2501", "magistral"])
def text_model(request: pytest.FixtureRequest) -> TinyModel:
    """A tiny model without vision."""
    spec = PRESETS[request.param]
    return TinyModel(ensure_tiny_model(spec), spec)


@pytest.fixture(scope="session")
def tiny_magistral() -> TinyModel:
    spec = PRESETS["magistral"]
    return TinyModel(ensure_tiny_model(spec), spec)
