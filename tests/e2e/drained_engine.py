"""Two real engines and a router, without Ray: one drains with little time left while it streams.

`python -m tests.e2e.drained_engine` prints a line of JSON: how many streams there were, how many of
them were handed over, and how many are other than the undisturbed ones.
"""

import asyncio
import json
import os
import socket

from serving.config import ModelConfig
from serving.engine.entry_flags import engine_flags, environment
from tests.e2e.killed_engine import BODIES, Stream, prompt
from tests.support.waiting import eventually

_LEFT_S = 3


async def main() -> None:
    config = ModelConfig(model="tiny-mistral-small-3.2")
    entry = config.entry
    os.environ.update(environment(entry) | {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"})
    # After the environment is set, which vLLM reads when it is imported.
    from serving.engine.access import AccessMiddleware
    from serving.engine.vllm.server import VllmServer
    from serving.model_rules import rules_of
    from serving.placement import Capacity
    from serving.router.replicas.model import Model
    from serving.router.replicas.replica import ReplicaInfo
    from tests.e2e.service import MODEL
    from tests.support.live_router import TOKEN, running_router

    rules = rules_of(config)
    servers, doors, infos = [], [], []
    for name in ("drains", "stays"):
        server = VllmServer(engine_flags(entry), [MODEL], rules, entry.loop_guard)
        door = AccessMiddleware(await server.start(), TOKEN, lambda: None)
        sock = socket.create_server(("127.0.0.1", 0))
        await server.listen(door, sock)
        capacity = Capacity(server.kv_cache_tokens, server.max_num_seqs)
        port = sock.getsockname()[1]
        infos.append(ReplicaInfo(name, "127.0.0.1", port, server.max_model_len, capacity))
        servers.append(server)
        doors.append(door)
    async with running_router(models=[Model(MODEL, rules=rules)]) as router:
        router.directory.update(MODEL, infos[:1])
        undisturbed = {prompt(body): await Stream().receive(router.http, body) for body in BODIES}
        streams = [Stream() for _ in BODIES]
        answers = [
            asyncio.create_task(stream.receive(router.http, body))
            for stream, body in zip(streams, BODIES, strict=True)
        ]
        await asyncio.gather(*(stream.begun.wait() for stream in streams))
        drain = asyncio.create_task(doors[0].drain(_LEFT_S))
        router.directory.update(MODEL, infos[1:])
        await asyncio.gather(*answers)
        cut_off = await drain
        await eventually(lambda: len(router.lines) == 2 * len(BODIES))
        lines = [json.loads(line) for line in router.lines]
        different = sum(
            stream.answer() != undisturbed[prompt(body)].answer()
            for stream, body in zip(streams, BODIES, strict=True)
        )
        retries, handed_over = (
            sum(one[name] for one in lines) for name in ("retries", "handed_over")
        )
        print(json.dumps([len(streams), handed_over, different, retries, cut_off]), flush=True)
    # At once, as they have one resource tracker, which ends with the last.
    await asyncio.gather(*(server.close() for server in servers))


if __name__ == "__main__":
    asyncio.run(main())
