"""The options that the commands that talk to a service share."""

import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.cli.client import checked_url
from serving.cli.commands import app
from tests.support.ports import free_port
from tests.support.scripted_service import Reply, ScriptedService

BAD_URLS = [
    "http://[::1",
    "http://127.0.0.1:99999",
    "http://127.0.0.1:0",
    "http://127.0.0.1:port",
    "localhost:8000",
    "ftp://localhost",
    "http://",
    "http://a..b",
    "http://\udcff",
    "",
]
COMMANDS = [("status",), ("chat", "Hello"), ("batch", "in.jsonl", "out.jsonl"), ("conformance",)]


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_address_that_is_none_is_told(url: str) -> None:
    result = CliRunner().invoke(app, ["status", "--url", url], catch_exceptions=False)
    assert result.exit_code == 2
    assert result.stderr == (
        f"mistral-serve: --url must be an address such as http://127.0.0.1:8000, not {url!r}\n"
    )


@pytest.mark.parametrize("command", ["status", "top", "monitor"])
def test_what_requires_the_admin_key_says_so_and_is_sent_it(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "prometheus"
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ADMIN", "hush-hush")
    handler = signal.getsignal(signal.SIGTERM)
    with ScriptedService(models=Reply(401)) as service:
        for options in ((), ("--admin-key-env", "ADMIN")):
            result = CliRunner().invoke(app, [command, "--url", service.url, *options])
            assert result.exit_code == 1
            assert "requires the admin key of the service" in result.stderr
            assert "--admin-key-env" in result.stderr and "hush-hush" not in result.output
        assert service.keys == {"Bearer hush-hush"}
    signal.signal(signal.SIGTERM, handler)
    result = CliRunner().invoke(app, [command, "--admin-key-env", "NONE"])
    assert result.exit_code == 2
    assert "the environment variable NONE of --admin-key-env is not set" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_checks_the_address(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*command, "--url", BAD_URLS[0]], catch_exceptions=False)
    assert result.exit_code == 2 and "--url must be" in result.stderr


@pytest.mark.parametrize("command", ["status", "top"])
def test_nothing_there_is_one_line(command: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = CliRunner().invoke(app, [command, "--url", url], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"mistral-serve: nothing answers at {url}.")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "url", ["http://[::1]:80", "https://bücher.example/path", "HTTP://a:65535"]
)
def test_an_address_passes_as_it_is(url: str) -> None:
    assert checked_url(url) == url


@pytest.mark.parametrize("key", ["schlüssel", "a\nb"])
def test_a_key_that_no_header_can_carry_is_told_and_not_shown(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", key)
    source = tmp_path / "in.jsonl"
    for command in (["batch", str(source), str(source)], ["chat", "Hello"]):
        result = CliRunner().invoke(app, [*command, "--api-key-env", "KEY"], catch_exceptions=False)
        assert result.exit_code == 2
        assert "KEY of --api-key-env holds no key" in result.stderr
        assert key not in result.stderr
