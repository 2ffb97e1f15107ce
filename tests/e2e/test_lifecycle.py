"""The commands: what they say, what they start, and that they leave nothing behind."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest

from serving.cli.local_ray import shared_memory
from tests.e2e.service import COMMAND, LOCAL_CONFIG, free_port, running, wait_for, write_config


@pytest.fixture
def one_replica(tmp_path: Path) -> Path:
    return write_config(tmp_path / "one.yaml", free_port(), replicas=1)


def mistral_serve(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *args], capture_output=True, text=True, timeout=120)


def temporary_files() -> set[str]:
    """Files of the places where Ray and vLLM are known to leave some."""
    return {
        str(path)
        for folder in ("/tmp", "/dev/shm")
        for path in Path(folder).iterdir()
        if re.match(r"mistral-serve-|ray|session_|psm_|torch|[0-9a-f]{8}-[0-9a-f-]{27}$", path.name)
    }


def test_ctrl_c_leaves_no_process_no_port_and_no_file(one_replica: Path) -> None:
    files = temporary_files()
    with running(one_replica) as service:
        output = "\n".join(service.output)
        curl = re.search(r"(curl http.*?)\nor:", output, re.DOTALL)
        assert curl is not None
        answer = subprocess.run(
            shlex.split(curl[1].replace("\\\n", " ")), capture_output=True, text=True, check=True
        )
        assert '"role":"assistant"' in answer.stdout

        status = mistral_serve("status", "--url", service.url)
        assert status.returncode == 0 and "tiny-mistral-small-3.2" in status.stdout
        chat = mistral_serve("chat", "Count from 1 to 10.", "--url", service.url)
        assert chat.stdout.strip().startswith("1, 2, 3")

        processes = service.processes
        assert len(processes) > 5
        output = service.interrupt()
        assert service.process.returncode == 0
        assert output.rstrip().endswith("stopped")
    assert [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    assert temporary_files() <= files


def test_ctrl_c_before_it_is_ready_leaves_nothing_either(one_replica: Path) -> None:
    files = temporary_files()
    process = subprocess.Popen(
        [COMMAND, "up", one_replica],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_for(lambda: shared_memory(psutil.Process(process.pid).children(True)), 240, "vLLM")
        processes = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 130
        assert "stopped before it was ready" in stderr and "Traceback" not in stderr
        assert [p for p in processes if p.is_running()] == []
        assert temporary_files() <= files
    finally:
        process.kill()


def test_down_stops_what_up_started(one_replica: Path) -> None:
    with running(one_replica) as service:
        port = service.url.rsplit(":", 1)[1]
        down = mistral_serve("down", "--port", port)
        assert (down.returncode, down.stdout) == (0, "Stopped.\n")
        assert service.process.wait(30) == 0
    again = mistral_serve("down", "--port", port)
    assert again.returncode == 1 and "No `mistral-serve up` is running" in again.stdout


def test_a_taken_port_is_one_clear_line(one_replica: Path) -> None:
    import socket

    import yaml

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


def test_nothing_running_is_said_with_what_to_do() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for command in ("status", "chat"):
        result = mistral_serve(command, *(["Hello"] if command == "chat" else []), "--url", url)
        assert result.returncode == 1
        assert "make serve" in result.stderr and "Traceback" not in result.stderr


def test_serve_run_takes_the_same_file(one_replica: Path) -> None:
    """Ray's own command starts the application from the same config."""
    port = int(re.search(r"port: (\d+)", one_replica.read_text())[1])  # type: ignore[index]
    import httpx

    # In a short folder, as the paths of vLLM's sockets have at most 107 characters.
    folder = tempfile.mkdtemp(prefix="serve-run-", dir="/tmp")
    environment = {**os.environ, "TMPDIR": folder}
    process = subprocess.Popen(
        [COMMAND.with_name("serve"), "run", one_replica],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        # Ignored where the tests run in the background of a shell, and so by Ray's command too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:

        def healthy() -> bool:
            assert process.poll() is None
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
            except httpx.HTTPError:
                return False

        wait_for(healthy, 240, "the application answers")
    finally:
        processes = psutil.Process(process.pid).children(recursive=True)
        shared = shared_memory(processes)
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        finally:
            _, alive = psutil.wait_procs(processes, timeout=30)
            process.kill()
            for left in alive:
                left.kill()
            shutil.rmtree(folder)
            for path in shared:
                path.unlink(missing_ok=True)
