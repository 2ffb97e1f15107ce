"""Tests of `mistral-serve up`, without a Ray."""

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import GetTimeoutError, RayError
from ray.serve.exceptions import RayServeException
from typer.testing import CliRunner

from serving.cli.commands import app
from serving.cli.up import Progress, StartError, service
from serving.config import AppConfig, ModelConfig

command: Any = importlib.import_module("serving.cli.up")
CONFIG = AppConfig(models=(ModelConfig(model="tiny-mistral-small-3.2"),))

RAY_ERRORS = [
    (RuntimeError("timed out during startup"), "timed out during startup"),
    (ConnectionError("no raylet"), "no raylet"),
    (GetTimeoutError("late"), "late"),
    (GetTimeoutError(), "GetTimeoutError"),
    (RayError("broken"), "broken"),
    (RayServeException("no controller"), "no controller"),
]


def fails_with(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> None:
        raise error

    return fail


@contextlib.contextmanager
def no_ray(cpus: int) -> Iterator[Path]:
    yield Path()


@pytest.mark.parametrize("step", ["local_ray", "start"])
@pytest.mark.parametrize(("error", "message"), RAY_ERRORS)
def test_what_ray_raises_at_its_start_is_told(
    step: str, error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "local_ray", no_ray)
    monkeypatch.setattr(command, step, fails_with(error))
    raises = pytest.raises(StartError, match=f"Ray did not start: .*{message}")
    with raises, service(CONFIG, Progress()):
        pass


def test_a_node_that_is_too_slow_to_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    error = Exception("The current node timed out during startup.")
    monkeypatch.setattr(command, "local_ray", fails_with(error))
    raises = pytest.raises(StartError, match=r"Ray did not start: .*timed out")
    with raises, service(CONFIG, Progress()):
        pass


def test_an_error_of_its_user_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "local_ray", no_ray)
    monkeypatch.setattr(command, "start", lambda *_: None)
    with pytest.raises(OSError, match="disk"), service(CONFIG, Progress()):
        raise OSError("disk")


@pytest.mark.usefixtures("handlers")
def test_a_cache_that_cannot_be_written_is_told_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    monkeypatch.setattr(command.preflight, "check", lambda _: None)
    monkeypatch.setattr(command, "local_ray", fails_with(AssertionError("started")))
    result = CliRunner().invoke(app, ["up"], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stderr.startswith("mistral-serve: /dev/null/mistral-serve/up-8000.pid: ")
    assert result.stderr.count("\n") == 1
