"""Serve configs of one application that tests write and load."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.config import ConfigError, load


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test writes its config."""
    return tmp_path / "serve.yaml"


def write(path: Path, args: Any) -> None:
    path.write_text(yaml.safe_dump({"applications": [{"name": "mistral", "args": args}]}))


def refusal(path: Path) -> str:
    """Returns the message with which `load` rejects the file, which it must name."""
    with pytest.raises(ConfigError) as raised:
        load(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")
