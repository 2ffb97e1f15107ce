"""The lifecycle commands: their output, what they start, and that they leave nothing behind."""

import re
import shlex
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest
import yaml

from tests.e2e.service import (
    LOCAL_CONFIG,
    ROOT,
    Engines,
    Service,
    mistral_serve,
    running_processes,
    temporary_files,
    title,
    up_command,
    write_config,
    write_models_config,
)
from tests.support.ports import free_port
from tests.support.waiting import wait_for

CATALOGUE = ROOT / "serving/catalogue"


@pytest.fixture
def one_replica(tmp_path: Path) -> Path:
    return write_config(tmp_path / "one.yaml", free_port(), replicas=1)


def test_what_up_prints_can_be_copied_and_run(service: Service) -> None:
    curl = re.search(r"(curl http.*?)\nor:", "\n".join(service.output), re.DOTALL)
    assert curl is not None
    command = shlex.split(curl[1].replace("\\\n", " "))
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '"role":"assistant"' in answer.stdout


def test_status_and_chat_find_the_service(service: Service) -> None:
    status = mistral_serve("status", "--url", service.url)
    assert status.returncode == 0 and "tiny-mistral-small-3.2" in status.stdout
    chat = mistral_serve("chat", "Count from 1 to 10.", "--url", service.url)
    assert chat.stdout.strip().startswith("1, 2, 3")


def test_ctrl_c_leaves_no_process_no_port_and_no_file(
    service: Service, files_before: set[str]
) -> None:
    """The shared service ends here, after everything that the other tests did to it."""
    processes = service.processes
    assert len(processes) > 5
    output = service.interrupt()
    assert service.process.returncode == 0
    assert output.rstrip().endswith("stopped")
    assert running_processes(processes) == []
    with socket.create_server(("127.0.0.1", int(service.url.rsplit(":", 1)[1]))):
        pass
    assert temporary_files() <= files_before


@pytest.mark.parametrize("engines", ["stand-in", pytest.param("vllm", marks=pytest.mark.full)])
def test_ctrl_c_before_it_is_ready_leaves_nothing_either(
    one_replica: Path, engines: Engines
) -> None:
    files = temporary_files()
    started = {"stand-in": "ray::ServeReplica:mistral:Engine", "vllm": "VLLM::EngineCore"}[engines]
    process = subprocess.Popen(
        [*up_command(engines), one_replica],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def starting() -> bool:
        assert process.poll() is None
        children = psutil.Process(process.pid).children(recursive=True)
        return any(title(child).startswith(started) for child in children)

    try:
        wait_for(starting, 240, "an engine is starting")
        processes = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 130
        assert "stopped before it was ready" in stderr and "Traceback" not in stderr
        assert running_processes(processes) == []
        assert temporary_files() <= files
    finally:
        process.kill()


def test_a_taken_port_is_one_clear_line(one_replica: Path) -> None:
    port = yaml.safe_load(one_replica.read_text())["applications"][0]["args"]["router"]["port"]
    with socket.create_server(("127.0.0.1", port)):
        up = mistral_serve("up", one_replica)
    assert up.returncode == 1
    assert up.stderr.startswith(f"mistral-serve: Port {port} on 127.0.0.1 is taken.")
    assert up.stderr.count("\n") == 1


def test_too_little_memory_is_one_clear_line(tmp_path: Path) -> None:
    up = mistral_serve("up", write_config(tmp_path / "many.yaml", free_port(), replicas=1000))
    assert up.returncode == 1
    assert "GiB of memory are needed" in up.stderr and up.stderr.count("\n") == 1


def test_missing_gpus_are_one_clear_line() -> None:
    if list(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has GPUs")
    up = mistral_serve("up", LOCAL_CONFIG.with_name("production.yaml"))
    assert up.returncode == 1
    assert "need 4 GPUs and this machine has 0" in up.stderr and up.stderr.count("\n") == 1


def test_a_mistake_in_the_config_names_file_field_and_what_is_allowed(tmp_path: Path) -> None:
    config = write_config(tmp_path / "wrong.yaml", free_port(), replica=3, model="mistral-tiny")
    up = mistral_serve("up", config)
    assert up.returncode == 1
    assert f"{config}: applications[0].args.models.0.replica: unknown field" in up.stderr
    assert "replicas" in up.stderr
    assert "Traceback" not in up.stderr


@pytest.mark.full
def test_weights_that_the_catalogue_describes_wrongly_end_the_start_with_both_values(
    tmp_path: Path,
) -> None:
    entry = yaml.safe_load((CATALOGUE / "tiny-mistral-small-2501.yaml").read_text())
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(entry | {"tokenizer": "v11"}))
    config = write_models_config(tmp_path / "serve.yaml", free_port(), ["wrong.yaml"])
    up = mistral_serve("up", config)
    assert up.returncode == 1
    last = up.stderr.splitlines()[-1]
    assert "tokenizer is v11, and tekken.json is of version v7" in last
    assert "Traceback" not in up.stderr


def test_nothing_running_is_said_with_what_to_do() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for command in ("status", "chat"):
        result = mistral_serve(command, *(["Hello"] if command == "chat" else []), "--url", url)
        assert result.returncode == 1
        assert "make serve" in result.stderr and "Traceback" not in result.stderr
