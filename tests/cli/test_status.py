"""`mistral-serve status`."""

from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
from typer.testing import CliRunner, Result

from serving.cli import app
from tests.batch.stand_in_service import Reply, serving
from tests.cli.service import a_model, a_replica, a_service

URL = "http://service:8000"

Status = Callable[[Any], Result]


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> Status:
    """Runs the command against a service that answers that."""

    def run(answer: Any) -> Result:
        body = answer if isinstance(answer, str) else msgspec.json.encode(answer)
        transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
        client = httpx.Client(base_url=URL, transport=transport)
        monkeypatch.setattr(httpx, "Client", lambda **_: client)
        return CliRunner().invoke(app, ["status", "--url", URL], catch_exceptions=False)

    return run


def test_models_and_replicas_are_listed(status: Status) -> None:
    result = status(a_service(small=a_model(a_replica("r1", requests=2, tokens=300))))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{URL}  vllm 0.32.0, ray 2.60.0",
        "small",
        "  r1  10.0.0.1:4000  2 requests and 300 tokens in flight",
    ]


def test_a_model_without_a_replica_is_told_and_1(status: Status) -> None:
    result = status(a_service(small=a_model()))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1:] == ["small", "  no replica is up"]


@pytest.mark.parametrize("body", ["<html>", "[]", "null", "7", "{}", '{"models": []}'])
def test_what_is_another_service_is_told(status: Status, body: str) -> None:
    result = status(body)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"mistral-serve: what answers at {URL} is no service of")
    assert result.stderr.count("\n") == 1


def test_an_error_is_not_taken_for_silence() -> None:
    with serving(models=Reply(404)) as service:
        result = CliRunner().invoke(app, ["status", "--url", service.url], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"mistral-serve: {service.url}/-/status answers 404: --url must be"
    )
    assert result.stderr.count("\n") == 1


def test_nothing_there_is_one_line() -> None:
    with serving() as service:
        pass
    result = CliRunner().invoke(app, ["status", "--url", service.url], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"mistral-serve: nothing answers at {service.url}.")
