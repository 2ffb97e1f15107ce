"""The options that the commands that talk to a service share."""

import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.cli.client import checked_url
from serving.cli.commands import app
from tests.engine.web import certificate
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


@pytest.fixture
def prometheus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A program of that name, as `monitor` wants one; it also handles SIGTERM."""
    program = tmp_path / "prometheus"
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_address_that_is_none_is_told(url: str) -> None:
    result = CliRunner().invoke(app, ["status", "--url", url], catch_exceptions=False)
    assert result.exit_code == 2
    assert result.stderr == (
        f"mistral-serve: --url must be an address such as http://127.0.0.1:8000, not {url!r}\n"
    )


@pytest.mark.parametrize("command", ["status", "top", "monitor"])
def test_what_requires_the_admin_key_says_so_and_is_sent_it(
    command: str, prometheus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN", "hush-hush")
    with ScriptedService(models=Reply(401)) as service:
        for options, said in (
            ((), "requires the admin key of the service: name the environment variable"),
            (("--admin-key-env", "ADMIN"), "refuses the key in ADMIN"),
        ):
            result = CliRunner().invoke(app, [command, "--url", service.url, *options])
            assert result.exit_code == 1
            assert said in result.stderr and "hush-hush" not in result.output
        assert service.keys == {"Bearer hush-hush"}
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
    assert result.stderr.startswith(f"mistral-serve: nothing answers at {url}: ")
    assert "Connection refused. Start a service with `make serve`" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("command", ["status", "top", "monitor"])
def test_an_error_of_the_service_is_told_as_it_says_it(
    command: str, status: int, prometheus: None
) -> None:
    with ScriptedService(models=Reply(status)) as service:
        result = CliRunner().invoke(app, [command, "--url", service.url])
    assert result.exit_code == 1
    assert f" answers {status}: status {status}\n" in result.stderr


@pytest.mark.parametrize("command", ["status", "usage", "chat Hello"])
def test_a_certificate_of_an_unknown_authority_is_told(command: str, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        tls, _ = certificate(tmp_path, "127.0.0.1")
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever).start()
        url = f"https://127.0.0.1:{server.server_port}"
        result = CliRunner().invoke(app, [*command.split(), "--url", url])
        server.shutdown()
    assert result.exit_code == 1
    assert f"the certificate of {url} is not trusted here" in result.stderr
    assert "set SSL_CERT_FILE" in result.stderr


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
