"""Real engines that start in a few seconds, without Ray: each is a fork of a process that has
imported vLLM already.

`python -m tests.e2e.engine_farm FOLDER` starts one for each line of its input, with its log in the
folder, and prints a line of JSON when one is up and when one has died.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from serving.cli.local_ray import shared_memory
from serving.config import ModelConfig
from serving.engine.entry_flags import engine_flags, environment
from serving.placement import Capacity
from serving.router.replicas.replica import ReplicaInfo
from tests.e2e.service import ROOT, own_temporary_folder
from tests.support.ending_logits import FLAG
from tests.support.live_router import MODEL, TOKEN

CONFIG = ModelConfig(model="tiny-mistral-small-3.2", vllm_args=FLAG)
HOST = "127.0.0.1"
_OUTLIVES_S = 2
"""How long it answers after its engine's death, as a replica does until Ray Serve ends it."""


class Farm:
    """The engines that were started, and what to do when one dies."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.deaths: list[str] = []
        """The replicas that have died."""
        self.on_up: Callable[[ReplicaInfo], object]
        self.on_death: Callable[[str], object]
        self._process = process
        self._folder = folder

    def start_one(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    def log(self) -> str:
        """What all engines have logged."""
        return "".join(path.read_text() for path in self._folder.glob("*.log"))

    async def follow(self) -> None:
        """Reports what comes up and dies, for as long as the farm runs."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            event = json.loads(line)
            if died := event.get("died"):
                self.deaths.append(died)
                self.on_death(died)
            else:
                capacity = Capacity(event["kv_cache_tokens"], event["max_num_seqs"])
                self.on_up(
                    ReplicaInfo(
                        event["name"], HOST, event["port"], event["max_model_len"], capacity
                    )
                )


@asynccontextmanager
async def running_farm(folder: Path) -> AsyncIterator[Farm]:
    """Yields a farm without engines; all of them are gone afterwards."""
    with own_temporary_folder() as own:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.e2e.engine_farm",
            folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={**own, **environment(CONFIG.entry), "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        farm = Farm(process, folder)
        following = asyncio.create_task(farm.follow())
        try:
            yield farm
        finally:
            shared = shared_memory(psutil.Process(process.pid).children(recursive=True))
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            await following
            for path in shared:
                path.unlink(missing_ok=True)


async def engine(name: str, say: Callable[[dict[str, Any]], object]) -> None:
    from serving.engine.access import AccessMiddleware
    from serving.engine.vllm.server import VllmServer
    from serving.model_rules import rules_of

    entry = CONFIG.entry
    server = VllmServer(engine_flags(entry), [MODEL], rules_of(CONFIG), entry.loop_guard)
    app = await server.start()
    sock = socket.create_server((HOST, 0))
    await server.listen(AccessMiddleware(app, TOKEN, lambda: server.death), sock)
    say(
        {
            "name": name,
            "port": sock.getsockname()[1],
            "max_model_len": server.max_model_len,
            "kv_cache_tokens": server.kv_cache_tokens,
            "max_num_seqs": server.max_num_seqs,
        }
    )
    while server.death is None:  # noqa: ASYNC110  # vLLM has no event
        await asyncio.sleep(0.1)
    say({"died": name})
    await asyncio.sleep(_OUTLIVES_S)
    await server.close()


def grow(folder: Path) -> None:
    import serving.engine.vllm.server  # noqa: F401  # before the forks

    def say(event: dict[str, Any]) -> None:
        os.write(answers, json.dumps(event).encode() + b"\n")

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    answers = os.dup(1)
    for number, _ in enumerate(sys.stdin):
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(folder / f"replica-{number}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        asyncio.run(engine(f"replica-{number}", say))
        os._exit(0)


if __name__ == "__main__":
    grow(Path(sys.argv[1]))
