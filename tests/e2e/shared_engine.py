"""A real engine and a router for two tenants, without Ray: `python -m tests.e2e.shared_engine`
prints the router's URL. Each tenant's key is its name."""

import asyncio
import os
import socket
import tempfile
from pathlib import Path

from serving.config import ModelConfig
from serving.engine.entry_flags import engine_flags, environment
from serving.tenants import Tenant

TENANTS = ("victim", "attacker")
PUBLIC = "You are a helpful assistant of the ministry. " * 150
"""A system prompt that is declared public."""
BLOCK_TOKENS = 32
"""A block of the prefix cache: the least that vLLM has on a CPU, where its default is 128."""


async def main(folder: Path) -> None:
    config = ModelConfig(
        model="tiny-mistral-small-3.2",
        public_system_prompts=(PUBLIC,),
        vllm_args={"block-size": BLOCK_TOKENS},
    )
    entry = config.entry
    os.environ.update(environment(entry) | {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"})
    # After the environment is set, which vLLM reads when it is imported.
    from serving.engine.access import AccessMiddleware
    from serving.engine.vllm.server import VllmServer
    from serving.model_rules import rules_of
    from serving.placement import Capacity
    from serving.router.replicas.model import Model
    from serving.router.replicas.replica import ReplicaInfo
    from tests.support.keys import key_record, keys_of
    from tests.support.live_router import MODEL, TOKEN, running_router

    rules = rules_of(config)
    server = VllmServer(engine_flags(entry), [MODEL], rules, entry.loop_guard)
    app = await server.start()
    sock = socket.create_server(("127.0.0.1", 0))
    await server.listen(AccessMiddleware(app, TOKEN, lambda: server.death), sock)
    capacity = Capacity(server.kv_cache_tokens, server.max_num_seqs)
    info = ReplicaInfo("engine", "127.0.0.1", sock.getsockname()[1], server.max_model_len, capacity)
    tenants = [Tenant(name=name) for name in TENANTS]
    keys = keys_of(folder, *(key_record(name, name) for name in TENANTS))
    models = [Model(MODEL, rules=rules)]
    async with running_router(models=models, tenants=tenants, authentication=keys) as router:
        router.directory.update(MODEL, [info])
        print(router.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as keys_folder:
        asyncio.run(main(Path(keys_folder)))
