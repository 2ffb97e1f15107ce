"""Tests of `mistral-serve conformance`: its output and exit status."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from serving.cli.commands import app
from serving.conformance.check import Check, Theme
from serving.conformance.expect import CheckFailed
from serving.conformance.needs import reasoning
from serving.conformance.server import Server, new_client

LISTED = {"data": [{"id": "mistral-serve/tiny-mistral-small-3.2", "max_model_len": 131072}]}

command = importlib.import_module("serving.cli.conformance")
theme = Theme("theme")


@theme.check()
async def it_passes(server: Server) -> None:
    """The check passes."""


@theme.check(reasoning)
async def it_is_skipped(server: Server) -> None:
    """The check does not apply to this model."""


@theme.check()
async def it_fails(server: Server) -> None:
    """The check fails."""
    raise CheckFailed("it broke")


Invoke = Callable[..., Any]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs the command with some checks against a server that lists a model."""

    def run(checks: list[Check], *args: str, listed: Any = LISTED) -> Any:
        def client(url: str, api_key: str | None) -> httpx.AsyncClient:
            def answer(request: httpx.Request) -> httpx.Response:
                authorization = request.headers.get("authorization")
                assert authorization == (f"Bearer {api_key}" if api_key else None)
                return httpx.Response(200, json=listed)

            real = new_client(url, api_key)
            transport = httpx.MockTransport(answer)
            return httpx.AsyncClient(
                transport=transport, base_url=real.base_url, headers=real.headers
            )

        monkeypatch.setattr(command, "new_client", client)
        monkeypatch.setattr(command, "CHECKS", tuple(checks))
        return CliRunner().invoke(app, ["conformance", *args])

    return run


def test_a_table_with_reasons_and_exit_code_1_on_a_failure(invoke: Invoke) -> None:
    result = invoke(theme.checks)
    assert result.exit_code == 1
    head, *rows, summary = result.stdout.splitlines()
    assert head.startswith("mistral-serve/tiny-mistral-small-3.2 at http://127.0.0.1:8000")
    assert [row.split()[0] for row in rows] == ["pass", "skip", "fail"]
    assert rows[1].endswith("it is skipped: the model does not reason")
    assert rows[2].endswith("it fails: it broke")
    assert summary == "1 passed, 1 failed, 1 skipped"


def test_skipping_is_no_failure(invoke: Invoke) -> None:
    assert invoke(theme.checks[:2]).exit_code == 0


def test_json_is_all_that_is_printed(invoke: Invoke) -> None:
    result = invoke(theme.checks, "--json", "--url", "http://elsewhere/v1/")
    document = json.loads(result.stdout)
    assert (document["passed"], document["failed"], document["skipped"]) == (1, 1, 1)
    assert (document["family"], document["profile"]) == ("3.2", "tiny")
    assert document["results"][2]["reason"] == "it broke"
    assert document["results"][0]["meaning"] == "The check passes."


def test_the_key_comes_from_the_environment(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    result = invoke(theme.checks[:1], "--api-key-env", "MY_KEY")
    assert result.exit_code == 0
    assert "secret" not in result.output
    monkeypatch.delenv("MY_KEY")
    missing = invoke(theme.checks[:1], "--api-key-env", "MY_KEY")
    assert missing.exit_code == 2
    assert "MY_KEY of --api-key-env is not set" in missing.output


def test_a_name_that_tells_nothing_asks_for_the_family(invoke: Invoke) -> None:
    listed = {"data": [{"id": "our-model"}]}
    result = invoke(theme.checks[:1], listed=listed)
    assert result.exit_code == 1 and "set --family to one of 3.2, 2501, magistral" in result.output
    result = invoke(theme.checks[:1], "--family", "magistral", listed=listed)
    assert result.exit_code == 0 and "by the card of magistral" in result.output


def test_a_tokenizer_that_is_none_is_told_before_anything_is_asked(
    invoke: Invoke, tmp_path: Path
) -> None:
    for path in (tmp_path / "absent.json", tmp_path):
        result = invoke(theme.checks, "--tokenizer", str(path))
        assert result.exit_code == 1 and result.output.count("\n") == 1
        assert f"--tokenizer {path} is no tekken.json" in result.output


def test_a_dead_server_is_one_line() -> None:
    result = CliRunner().invoke(app, ["conformance", "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 1
    assert result.output.startswith("mistral-serve: nothing answers at http://127.0.0.1:1")
    assert result.output.count("\n") == 1
