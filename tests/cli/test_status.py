"""`mistral-serve status`."""

from collections.abc import Callable

import pytest
from msgspec.json import encode
from typer.testing import CliRunner, Result

from serving.cli.commands import app
from tests.cli.service import URL, a_model, a_replica, a_service, run
from tests.support.scripted_service import Reply, ScriptedService

Status = Callable[[bytes], Result]


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> Status:
    """Runs the command against a service with those answers."""
    return lambda answer: run(monkeypatch, "status", answer)


def test_models_and_replicas_are_listed(status: Status) -> None:
    result = status(encode(a_service(small=a_model(a_replica("r1", requests=2, tokens=300)))))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{URL}  vllm 0.32.0, ray 2.60.0",
        "small",
        "  r1  10.0.0.1:4000  2 requests and 300 tokens in flight",
    ]


def test_a_model_without_a_replica_is_told_and_1(status: Status) -> None:
    result = status(encode(a_service(small=a_model())))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1:] == ["small", "  no replica is up"]


@pytest.mark.parametrize("body", ["<html>", "[]", "null", "7", "{}", '{"models": []}'])
def test_what_is_another_service_is_told(status: Status, body: str) -> None:
    result = status(body.encode())
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"mistral-serve: the server at {URL} is not a")
    assert result.stderr.count("\n") == 1


def test_an_error_is_not_taken_for_silence() -> None:
    with ScriptedService(models=Reply(404)) as service:
        result = CliRunner().invoke(app, ["status", "--url", service.url], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"mistral-serve: {service.url}/-/status answers 404: --url must be"
    )
    assert result.stderr.count("\n") == 1
