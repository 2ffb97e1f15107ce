"""Starts the service as a user does, and observes it from outside."""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import psutil
import yaml

from serving.cli.local_ray import shared_memory
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
Engines = Literal["vllm", "stand-in"]
LOCAL_CONFIG = ROOT / "deploy/serve/local.yaml"
COMMAND = Path(sys.executable).with_name("mistral-serve")
MODEL = "mistral-serve/tiny-mistral-small-3.2"

ENDLESS: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Repeat the word hello forever."}],
    "temperature": 0,
    "ignore_eos": True,  # no loop guard
    "stream": True,
}

_READY_TIMEOUT_S = 300
_TOKEN_SCRIPT = """
import ray
ray.init(address="{address}", log_to_driver=False, logging_level="error")
from serving.engine_protocol import engine_token
print(engine_token())
"""


def mistral_serve(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *args], capture_output=True, text=True, timeout=120)


def up_command(engines: Engines) -> list[str | Path]:
    """`mistral-serve up`, optionally with stand-ins for vLLM in its engines."""
    if engines == "vllm":
        return [COMMAND, "up"]
    return [sys.executable, "-m", "tests.faults.command", "up"]


def temporary_files() -> set[str]:
    """Temporary files with the names that Ray and vLLM are known to use."""
    return {
        str(path)
        for folder in ("/tmp", "/dev/shm")
        for path in Path(folder).iterdir()
        if re.match(r"mistral-serve-|ray|session_|psm_|torch|[0-9a-f]{8}-[0-9a-f-]{27}$", path.name)
    }


def running_processes(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those of the processes that have not ended; a zombie has."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def write_config(path: Path, port: int, *, otlp_endpoint: str | None = None, **model: Any) -> Path:
    """The local config with another port, and its model's settings overridden by `model`."""
    document = yaml.safe_load(LOCAL_CONFIG.read_text())
    args = document["applications"][0]["args"]
    args["router"]["port"] = port
    args["tracing"] = {"otlp_endpoint": otlp_endpoint}
    args["models"][0] |= model
    if "autoscaling" in model:
        del args["models"][0]["replicas"]
    path.write_text(yaml.safe_dump(document))
    return path


def write_models_config(path: Path, port: int, models: Iterable[str]) -> Path:
    """The local config with these models of the catalogue, one replica of each."""
    document = yaml.safe_load(LOCAL_CONFIG.read_text())
    args = document["applications"][0]["args"]
    args["router"]["port"] = port
    model = args["models"][0] | {"aliases": [], "replicas": 1}
    args["models"] = [model | {"model": name} for name in models]
    path.write_text(yaml.safe_dump(document))
    return path


@dataclass
class Service:
    """A running `mistral-serve up`."""

    url: str
    process: subprocess.Popen[str]
    auth_token: str
    model: str = MODEL
    output: list[str] = field(default_factory=list)

    @property
    def processes(self) -> list[psutil.Process]:
        """The command and all processes that it started."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    @property
    def folder(self) -> Path:
        """The folder for all files that the service writes."""
        logs = next(line for line in self.output if "logs: " in line)
        return Path(logs.split("logs: ")[1].strip()).parents[1]

    def request_log(self) -> list[dict[str, Any]]:
        """The lines of all routers' request logs."""
        files = self.folder.glob("session_latest/logs/serve/*.requests.jsonl")
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def replicas(self) -> list[dict[str, Any]]:
        models = httpx.get(f"{self.url}/-/status", timeout=60).json()["models"]
        replicas: list[dict[str, Any]] = models[self.model]["replicas"]
        return replicas

    def engine_token(self) -> str:
        """The secret between router and engines, read out of Ray as only its owner can."""
        gcs = next(p for p in self.processes if "gcs_server" in p.name())
        port = next(c.laddr.port for c in gcs.net_connections("tcp") if c.status == "LISTEN")
        raylet = next(p for p in self.processes if p.name() == "raylet")
        node_ip = next(
            arg.split("=")[1] for arg in raylet.cmdline() if arg.startswith("--node_ip_address=")
        )
        result = subprocess.run(
            [sys.executable, "-c", _TOKEN_SCRIPT.format(address=f"{node_ip}:{port}")],
            env=environment(self.auth_token),
            capture_output=True,
            text=True,
            check=True,
        )
        return result.stdout.split()[-1]

    def interrupt(self) -> str:
        """Sends Ctrl-C; returns all output once the command has ended."""
        self.process.send_signal(signal.SIGINT)
        rest, _ = self.process.communicate(timeout=120)
        self.output += rest.splitlines()
        return "\n".join(self.output)


def environment(auth_token: str) -> dict[str, str]:
    return {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": auth_token}


@contextlib.contextmanager
def own_temporary_folder() -> Iterator[dict[str, str]]:
    """Gives the environment for a command that runs vLLM itself, whose sockets stay behind. Their
    folder has a short name, as their paths have at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="vllm-", dir="/tmp") as folder:
        yield {**os.environ, "TMPDIR": folder}


@contextlib.contextmanager
def running(config: Path, *command: str | Path, model: str = MODEL) -> Iterator[Service]:
    """Runs `mistral-serve up CONFIG`, yields at its ready line, and ends it if it still runs."""
    auth_token = secrets.token_hex(32)
    process = subprocess.Popen(
        [*(command or (COMMAND, "up")), config],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        cwd=ROOT,
        env=environment(auth_token),
    )
    service = Service("", process, auth_token, model)
    try:
        _read_until_ready(service)
        yield service
    finally:
        if process.poll() is None:
            processes = service.processes
            service.interrupt()
            _, alive = psutil.wait_procs(processes, timeout=30)
            for left in alive:
                left.kill()


@contextlib.contextmanager
def running_by_ray(config: Path) -> Iterator[str]:
    """Runs Ray's own `serve run CONFIG`, and yields the URL once the application answers."""
    port = int(re.search(r"port: (\d+)", config.read_text())[1])  # type: ignore[index]
    url = f"http://127.0.0.1:{port}"
    # In a short folder, as the paths of vLLM's sockets have at most 107 characters.
    folder = tempfile.mkdtemp(prefix="serve-run-", dir="/tmp")
    process = subprocess.Popen(
        [COMMAND.with_name("serve"), "run", config],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": folder},
        # Tests in the background of a shell ignore it, and so would Ray's command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def healthy() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"{url}/health", timeout=60).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_for(healthy, _READY_TIMEOUT_S, "the application answers")
        yield url
    finally:
        processes = psutil.Process(process.pid).children(recursive=True)
        shared = shared_memory(processes)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            _, alive = psutil.wait_procs(processes, timeout=30)
            process.kill()
            for left in alive:
                left.kill()
            shutil.rmtree(folder)
            for path in shared:
                path.unlink(missing_ok=True)


def _read_until_ready(service: Service) -> None:
    assert service.process.stdout is not None
    deadline_s = time.monotonic() + _READY_TIMEOUT_S
    for line in service.process.stdout:
        service.output.append(line.rstrip("\n"))
        if match := re.search(r"ready: (\S+)", line):
            service.url = match[1]
        if "Ctrl-C stops it" in line:
            return
        assert time.monotonic() < deadline_s, "\n".join(service.output)
    raise AssertionError("it ended before it was ready:\n" + "\n".join(service.output))
