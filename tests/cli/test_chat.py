"""`mistral-serve chat`."""

import pytest
from typer.testing import CliRunner, Result

from serving.cli.commands import app
from tests.support.scripted_service import Reply, ScriptedService

EVENT = b'data: {"choices": [{"delta": {"content": "Paris"}}]}\n\ndata: [DONE]\n\n'
LISTED = Reply(body=b'{"data": [{"id": "small"}]}')


def chat(service: ScriptedService, *args: str) -> Result:
    arguments = ["chat", "Hello", "--url", service.url, *args]
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_an_answer_is_printed() -> None:
    with ScriptedService({"Hello": [Reply(body=EVENT)]}, models=LISTED) as service:
        result = chat(service)
    assert (result.exit_code, result.stdout) == (0, "Paris\n")


@pytest.mark.parametrize("listed", [b'{"data": []}', b"<html>", b"[]", b'{"data": null}', b"{}"])
def test_a_list_without_a_model_is_told(listed: bytes) -> None:
    with ScriptedService(models=Reply(body=listed)) as service:
        result = chat(service)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"mistral-serve: {service.url}/v1/models lists no model.")
    assert result.stderr.count("\n") == 1
    assert service.asked == []


def test_a_key_is_sent_only_if_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of another service")
    monkeypatch.setenv("MY_KEY", "secret\n")
    with ScriptedService(models=LISTED) as service:
        assert chat(service).exit_code == 0
        assert service.keys == set()
        assert chat(service, "--api-key-env", "MY_KEY").exit_code == 0
        assert service.keys == {"Bearer secret"}
