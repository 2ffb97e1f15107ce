"""A router's answers about a service, for tests of the commands that show it."""

import httpx
import pytest
from typer.testing import CliRunner, Result

from serving.cli.commands import app
from serving.router.telemetry.status import (
    ModelStatus,
    Objectives,
    Quantiles,
    Recent,
    ReplicaStatus,
    ServiceStatus,
)


def a_replica(name: str, *, requests: int = 0, tokens: int = 0) -> ReplicaStatus:
    return ReplicaStatus(name, "10.0.0.1:4000", requests, tokens, tokens / 1000, 1000, 8, False)


def a_model(*replicas: ReplicaStatus) -> ModelStatus:
    nothing = Quantiles(None, None)
    recent = Recent(100, 0, 0, 0, 0, 0, None, None, nothing, nothing, nothing)
    return ModelStatus([], False, 0, None if replicas else 42, list(replicas), recent)


def a_service(**models: ModelStatus) -> ServiceStatus:
    versions = {"vllm": "0.32.0", "ray": "2.60.0"}
    return ServiceStatus("router-0", 1, "least_cost", False, versions, Objectives(2.5, 0.1), models)


URL = "http://service:8000"


def run(monkeypatch: pytest.MonkeyPatch, command: str, answer: bytes) -> Result:
    """Runs the command against a service with those answers."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=answer))
    client = httpx.Client(base_url=URL, transport=transport)
    monkeypatch.setattr(httpx, "Client", lambda **_: client)
    return CliRunner().invoke(app, [command, "--url", URL], catch_exceptions=False)
