"""The batch command against a stand-in service, killed and interrupted as a real one is."""

import asyncio
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

import httpx
import pytest
from typer.testing import CliRunner, Result

from serving.batch import retry
from serving.cli.commands import app
from serving.cli.up import Progress
from serving.config import AppConfig, ModelConfig
from serving.engine.start_log import StartError
from serving.offline import EngineDiedError
from tests.cli import stand_in_model
from tests.support.scripted_service import HOLD, Reply, ScriptedService, completion, request_line
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
LOCAL_CONFIG = ROOT / "deploy/serve/local.yaml"
COMMAND = [sys.executable, "-c", "from serving.cli import main; main()", "batch"]

TINY = "tiny-mistral-small-3.2"
MODEL = f"mistral-serve/{TINY}"
IDS = [f"line-{number}" for number in range(40)]

pytestmark = pytest.mark.usefixtures("handlers")


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
        (("--model", TINY, "--url", "http://x"), "--url is for a running"),
        (("--set", "variant=fp8"), "--set changes the model that --model names"),
        (("--model", TINY, "--set", "variant"), "--set: 'variant' is not FIELD=VALUE, such as"),
        (("--model", TINY, "--set", "size=8"), "--set size: unknown field; allowed are: "),
        (("--model", TINY, "--set", "max_model_len=x"), "--set max_model_len: Input should be a"),
        (("--model", TINY, "--set", "replicas=2"), "--set replicas: is for a service"),
        (("--model", TINY, "--set", "vllm_args.x=1"), "models.0.vllm_args: vLLM 0"),
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


def test_a_service_of_its_own_runs_only_while_it_is_needed(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
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
    assert batch(source, out, "--config", LOCAL_CONFIG).exit_code == 0
    assert batch(source, out, "--config", LOCAL_CONFIG).exit_code == 0
    (stand_in,) = ran
    assert sorted(stand_in.asked) == sorted(IDS)


class Model(httpx.AsyncBaseTransport):
    """A stand-in for a model in this process, whose engine has a batch of two."""

    max_num_seqs = 2

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.asked: list[str] = []
        self.most_at_a_time = 0
        self.closed = False
        self._now = 0

    async def start(self) -> None:
        os.write(1, b"of the engine\n")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._now += 1
        self.most_at_a_time = max(self.most_at_a_time, self._now)
        for _ in range(5):  # others may come
            await asyncio.sleep(0)
        self._now -= 1
        self.asked.append(json.loads(request.content)["messages"][0]["content"])
        if len(self.asked) == 30:
            raise EngineDiedError("no heart beat")
        return httpx.Response(200, content=completion(self.asked[-1]))

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> list[Model]:
    """The models that ran in this process."""
    command: Any = importlib.import_module("serving.cli.batch_offline")
    ran: list[Model] = []

    def model(config: ModelConfig) -> Model:
        ran.append(Model(config))
        return ran[-1]

    monkeypatch.setattr(command, "OfflineModel", model)
    return ran


def test_a_model_runs_here_and_its_engines_output_is_in_a_file(
    source: Path, out: Path, models: list[Model]
) -> None:
    options = ("--model", TINY, "--set", "max_model_len=100", "--set", "vllm_args.seed=1")
    dead = batch(source, out, *options)
    assert dead.exit_code == 2
    log = out.with_name("out.engine.log")
    assert f"the engine died: no heart beat; log: {log}" in dead.stderr
    assert log.read_text() == "of the engine\n"
    assert "The same command continues from here." in dead.stderr
    answered = ids(out)

    assert batch(source, out, *options).exit_code == 0
    assert sorted(ids(out)) == sorted(IDS) and ids(out)[: len(answered)] == answered
    assert batch(source, out, *options).exit_code == 0, "needs no model"
    first, second = models
    assert second.asked == [line for line in IDS if line not in answered]
    assert first.closed and second.closed
    assert first.most_at_a_time == 4
    assert (first.config.context_tokens, first.config.vllm_args) == (100, {"seed": 1})


def test_fewer_requests_at_a_time_can_be_had_of_a_model(
    source: Path, out: Path, models: list[Model]
) -> None:
    batch(source, out, "--model", TINY, "--concurrency", "1")
    assert models[0].most_at_a_time == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("no weights"), 2, f"{MODEL} did not start: no weights; log: "),
        (StartError("OutOfMemoryError; log: x"), 2, "mistral-serve: OutOfMemoryError; log: x\n"),
        (KeyboardInterrupt(), 130, "the same command continues"),
    ],
)
def test_a_model_that_does_not_start_says_why(
    source: Path,
    out: Path,
    models: list[Model],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    message: str,
) -> None:
    async def fail(_: Model) -> None:
        raise error

    monkeypatch.setattr(Model, "start", fail)
    result = batch(source, out, "--model", TINY)
    assert result.exit_code == code and message in result.stderr
    assert not ids(out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("hold", "answered"), [("start", 0), ("answer", stand_in_model.ANSWERS)])
def test_an_interrupt_of_a_model_keeps_what_is_answered(
    source: Path, out: Path, number: signal.Signals, hold: str, answered: int
) -> None:
    command = [sys.executable, "-m", "tests.cli.stand_in_model", "batch", "--model", TINY]
    process = subprocess.Popen(
        [*command, source, out],
        cwd=ROOT,
        env={**os.environ, "HOLD": hold},
        stderr=subprocess.PIPE,
        text=True,
    )
    log = out.with_name("out.engine.log")
    try:
        wait_for(lambda: log.exists() and stand_in_model.STARTED in log.read_text())
        wait_for(lambda: len(ids(out)) == answered)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "the same command continues" in stderr and "Traceback" not in stderr
    assert ids(out) == IDS[:answered]
    assert (stand_in_model.ENDED in log.read_text()) == (hold == "answer")


def test_a_model_of_another_server_is_told(source: Path, out: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(
        "{id: other, kind: openai, base_url: 'http://x/v1', tokenizer: v7, context_tokens: 9, "
        "sampling: {temperature: 0}}"
    )
    result = batch(source, out, "--model", file)
    assert result.exit_code == 2 and "runs on the server at its base_url" in result.stderr
