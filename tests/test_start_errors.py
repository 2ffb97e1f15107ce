"""The reason why a model has no replica, from Ray Serve to `GET /-/status`."""

from types import SimpleNamespace
from typing import Any

import pytest

from serving.cli.status import model_lines
from serving.cli.up import reason
from serving.config import RouterConfig
from serving.router.http.authentication import Authentication
from serving.router.replicas.directory import Directory
from serving.router.replicas.health import HealthCheck
from serving.router.replicas.model import Model
from serving.router.telemetry.observer import Observer

CAUSE = "serving.engine.start_log.StartError: ValueError: no weights (worker/loader.py:7)"
MESSAGE = f"""\
A replica failed to start with exception. Retrying 2 more time(s). Error:
ray::ServeReplica:mistral:Engine-m.initialize_and_get_metadata() (pid=421, ip=10.0.1.2)
  File "/ray/serve/_private/replica.py", line 1984, in initialize
    raise RuntimeError(traceback.format_exc()) from None
RuntimeError: Traceback (most recent call last):
  File "/serving/engine/start_log.py", line 51, in root_cause_raised
    raise StartError(f"{{why}}; log: {{file}}") from error
    ^^^^^^^^^^^^^^^^
{CAUSE}
"""
"""A message as Ray Serve 2.60 composes it."""


def application(message: str) -> Any:
    return SimpleNamespace(deployments={"Engine-m": SimpleNamespace(message=message)})


async def lines(monkeypatch: pytest.MonkeyPatch, status: Any) -> list[str]:
    """What `mistral-serve status` shows of a model without a replica."""
    monkeypatch.setattr("ray.serve.status", status)
    config = RouterConfig()
    directory = Directory([Model("m")], config, HealthCheck("token", 1))
    observer = Observer(
        directory,
        config,
        Authentication(config),
        "router-0",
        lambda: 1,
        deployments={"m": "Engine-m"},
    )
    return model_lines("m", (await observer.explained_status({})).models["m"])


async def test_the_status_of_a_model_without_a_replica_has_the_root_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = SimpleNamespace(applications={"mistral": application(MESSAGE)})
    assert await lines(monkeypatch, lambda: failed) == ["m", f"  no replica is up: {CAUSE}"]


async def test_the_status_does_without_ray_serves_controller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away() -> None:
        raise ConnectionError

    assert await lines(monkeypatch, away) == ["m", "  no replica is up"]


def test_a_local_start_ends_with_the_root_cause_alone() -> None:
    assert reason(application(MESSAGE)) == CAUSE
