"""The batch command against a stand-in service, killed and interrupted as a real one is."""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from serving.batch import retry
from serving.cli import app
from serving.cli.up import Progress
from serving.config import AppConfig
from tests.support.scripted_service import HOLD, Reply, ScriptedService, request_line
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
LOCAL_CONFIG = ROOT / "deploy/serve/local.yaml"
COMMAND = [sys.executable, "-c", "from serving.cli import main; main()", "batch"]

IDS = [f"line-{number}" for number in range(40)]


@pytest.fixture(autouse=True)
def restored_signals() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(map(request_line, IDS)))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def batch(*args: str | Path) -> Result:
    return CliRunner().invoke(app, ["batch", *map(str, args)], catch_exceptions=False)


def started(*args: str | Path) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    return subprocess.Popen([*COMMAND, *args], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def ids(path: Path) -> list[str]:
    if not path.exists():
        return []
    return [json.loads(line)["custom_id"] for line in path.read_bytes().splitlines()]


@contextlib.contextmanager
def half_done(source: Path, out: Path) -> Iterator[tuple[ScriptedService, subprocess.Popen[str]]]:
    """A run with half of the lines answered and four others sent, which get no answer."""
    script = {custom_id: [HOLD] for custom_id in IDS[20:24]}
    with ScriptedService(script) as service:
        process = started(source, out, "--url", service.url, "--concurrency", "4")
        try:
            wait_for(lambda: len(service.asked) == 24 and len(ids(out)) == 20)
            yield service, process
        finally:
            process.kill()
            process.communicate()


def test_all_answered_is_0_and_says_so(source: Path, out: Path) -> None:
    with ScriptedService() as service:
        result = batch(source, out, "--url", service.url)
    assert result.exit_code == 0
    assert f"{out}: 40 of 40 lines answered" in result.stderr
    assert result.stdout == ""
    assert sorted(ids(out)) == sorted(IDS)
    assert sorted(service.asked) == sorted(IDS)


def test_some_failed_is_1_and_names_them_and_again_in_the_next_run(source: Path, out: Path) -> None:
    with ScriptedService({"line-7": [Reply(400)] * 2}) as service:
        result = batch(source, out, "--url", service.url)
        assert result.exit_code == 1
        assert f"{out}: 39 of 40 lines answered" in result.stderr
        errors = out.with_name("out.errors.jsonl")
        assert f"{errors}: 1 failed\n  line-7: 400: status 400" in result.stderr
        assert ids(errors) == ["line-7"]

        again = batch(source, out, "--url", service.url)
        assert again.exit_code == 1
        assert len(service.asked) == 40, "a refusal is not asked again"

        errors.unlink()
        assert batch(source, out, "--url", service.url).exit_code == 1
        assert service.asked[40:] == ["line-7"]

        errors.unlink()
        assert batch(source, out, "--url", service.url).exit_code == 0
    assert sorted(ids(out)) == sorted(IDS)


def test_a_done_batch_needs_no_service(source: Path, out: Path) -> None:
    with ScriptedService() as service:
        batch(source, out, "--url", service.url)
    assert batch(source, out, "--url", service.url).exit_code == 0


def test_a_kill_in_the_middle_neither_loses_nor_repeats_a_line(source: Path, out: Path) -> None:
    with half_done(source, out) as (service, process):
        process.kill()
        process.wait()
        before = ids(out)
        # as after a kill in the middle of a write
        with out.open("ab") as file:
            file.write(b'{"id":"batch_req_0","custom_id":"line-20","respo')

        result = batch(source, out, "--url", service.url)
        assert result.exit_code == 0
    assert sorted(ids(out)) == sorted(IDS)
    assert sorted(service.asked) == sorted([*IDS, *IDS[20:24]]), "only the unanswered ones again"
    assert ids(out)[: len(before)] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_cleanly_and_says_how_to_go_on(
    source: Path, out: Path, number: signal.Signals
) -> None:
    with half_done(source, out) as (service, process):
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "the same command continues" in stderr and "Traceback" not in stderr
        assert batch(source, out, "--url", service.url).exit_code == 0
    assert sorted(ids(out)) == sorted(IDS)


def test_a_second_run_on_the_same_output_is_refused(source: Path, out: Path) -> None:
    with half_done(source, out) as (service, _):
        second = batch(source, out, "--url", service.url)
        assert second.exit_code == 2
        assert f"{out}: another run is writing to it" in second.stderr


def test_a_bad_line_is_told_before_the_first_request(source: Path, out: Path) -> None:
    with source.open("ab") as file:
        file.write(request_line("line-3") + request_line("x", body={"stream": True}))
    with ScriptedService() as service:
        result = batch(source, out, "--url", service.url)
    assert result.exit_code == 2
    assert f"{source}:41: `custom_id` 'line-3' stands on two lines" in result.stderr
    assert f"{source}:42: `body.stream` must be absent" in result.stderr
    assert service.asked == [] and not out.exists()


def test_a_service_that_takes_nothing_ends_the_run_and_the_next_goes_on(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)
    with ScriptedService({custom_id: [Reply(503)] * 3 for custom_id in IDS}) as service:
        options = ("--url", service.url, "--tries", "3", "--concurrency", "4")
        result = batch(source, out, *options)
        assert result.exit_code == 2
        assert "stopped: nothing was answered in 3 tries of a line; 503" in result.stderr
        service.script = {}
        assert batch(source, out, *options).exit_code == 0
    assert sorted(ids(out)) == sorted(IDS)
    assert not out.with_name("out.errors.jsonl").exists()


def test_nothing_there_is_one_clear_line(source: Path, out: Path) -> None:
    with ScriptedService() as service:
        pass
    result = batch(source, out, "--url", service.url)
    assert result.exit_code == 2
    assert f"nothing answers at {service.url}" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_key_comes_from_the_named_variable(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_KEY", "secret\n")
    with ScriptedService() as service:
        result = batch(source, out, "--url", service.url, "--api-key-env", "BATCH_KEY")
    assert result.exit_code == 0
    assert service.keys == {"Bearer secret"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--api-key-env", "NO_SUCH_KEY"), "the environment variable NO_SUCH_KEY"),
        (("--config", "x.yaml", "--model", "y"), "exclude each other"),
        (("--config", "x.yaml"), "x.yaml: No such file"),
        (("--model", "nothing"), "--model: unknown model 'nothing'; the catalogue has: "),
        (("--model", "tiny-mistral-small-3.2", "--url", "http://x"), "--url is for a running"),
    ],
)
def test_options_that_cannot_be_met_are_told(
    source: Path, out: Path, args: tuple[str, ...], message: str
) -> None:
    result = batch(source, out, *args)
    assert result.exit_code == 2
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_files_that_cannot_be_used_are_told(source: Path, out: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((tmp_path / "none.jsonl", out), "none.jsonl: No such file or directory"),
        ((tmp_path, out), "Is a directory"),
        ((source, tmp_path), "Is a directory"),
        ((source, tmp_path / "none/out.jsonl"), "out.jsonl: No such file or directory"),
        ((source, source), "in.jsonl is the input: name another output file"),
    ):
        result = batch(*arguments)
        assert result.exit_code == 2
        assert message in result.stderr and result.stderr.count("\n") == 1
    assert ids(source) == IDS


@pytest.mark.parametrize(
    "options", [("--model", "tiny-mistral-small-3.2"), ("--config", str(LOCAL_CONFIG))]
)
def test_a_service_of_its_own_runs_only_while_it_is_needed(
    source: Path, out: Path, options: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command: Any = importlib.import_module("serving.cli.batch")
    ran: list[ScriptedService] = []

    @contextlib.contextmanager
    def service(config: AppConfig, say: Progress) -> Iterator[Path]:
        assert config.router.host == "127.0.0.1" and config.router.port != 8000
        with ScriptedService(port=config.router.port) as stand_in:
            ran.append(stand_in)
            yield Path()

    monkeypatch.setattr(command, "service", service)
    monkeypatch.setattr(command.preflight, "check", lambda _: None)
    monkeypatch.setitem(os.environ, "MISTRAL_SERVE_URL", "http://not-used")
    assert batch(source, out, *options).exit_code == 0
    assert batch(source, out, *options).exit_code == 0
    (stand_in,) = ran
    assert sorted(stand_in.asked) == sorted(IDS)
