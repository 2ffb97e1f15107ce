"""`mistral-serve status`."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from serving.cli import app
from tests.batch.stand_in_service import Reply, serving

URL = "http://service:8000"
REPLICA = {
    "replica": "r1",
    "address": "10.0.0.1:4000",
    "requests_in_flight": 2,
    "tokens_in_flight": 300,
}
ANSWERS: dict[str, Any] = {
    "/-/replicas": {"small": [REPLICA]},
    "/version": {"vllm": "0.32.0", "ray": "2.60.0"},
}

Status = Callable[[dict[str, Any]], Result]


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> Status:
    """Runs the command against a service of those answers."""

    def run(answers: dict[str, Any]) -> Result:
        def answer(request: httpx.Request) -> httpx.Response:
            body = answers[request.url.path]
            return httpx.Response(200, content=body if isinstance(body, str) else json.dumps(body))

        transport = httpx.MockTransport(answer)
        client = httpx.Client(base_url=URL, transport=transport)
        monkeypatch.setattr(httpx, "Client", lambda **_: client)
        return CliRunner().invoke(app, ["status", "--url", URL], catch_exceptions=False)

    return run


def test_models_and_replicas_are_listed(status: Status) -> None:
    result = status(ANSWERS)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{URL}  vllm 0.32.0, ray 2.60.0",
        "small",
        "  r1  10.0.0.1:4000  2 requests and 300 tokens in flight",
    ]


def test_a_model_without_a_replica_is_told_and_1(status: Status) -> None:
    result = status(ANSWERS | {"/-/replicas": {"small": []}})
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1:] == ["small", "  no replica is up"]


@pytest.mark.parametrize("path", ANSWERS)
@pytest.mark.parametrize("body", ["<html>", [], None, "7"])
def test_what_is_another_service_is_told(status: Status, path: str, body: Any) -> None:
    result = status(ANSWERS | {path: body})
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"mistral-serve: what answers at {URL} is no service of")
    assert result.stderr.count("\n") == 1


def test_an_error_is_not_taken_for_silence() -> None:
    with serving(models=Reply(404)) as service:
        result = CliRunner().invoke(app, ["status", "--url", service.url], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"mistral-serve: {service.url}/-/replicas answers 404: --url must be"
    )
    assert result.stderr.count("\n") == 1


def test_nothing_there_is_one_line() -> None:
    with serving() as service:
        pass
    result = CliRunner().invoke(app, ["status", "--url", service.url], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"mistral-serve: nothing answers at {service.url}.")
