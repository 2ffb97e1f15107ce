"""What the engine's server does beside answering."""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from serving.engine.vllm.server import log_statistics, spawned_main
from tests.support.waiting import eventually


async def test_vllm_is_made_to_log_its_statistics_again_and_again() -> None:
    class Engine:
        logged = 0

        async def do_log_stats(self) -> None:
            self.logged += 1

    engine: Any = Engine()
    logging = asyncio.create_task(log_statistics(engine, interval_s=0.001))
    await eventually(lambda: engine.logged >= 3)
    logging.cancel()


def test_spawned_processes_have_the_main_module_that_they_are_given() -> None:
    name = "__import__('sys').modules['__main__'].__spec__.name"
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, spawned_main("serving.versions"):
        assert pool.submit(eval, name).result() == "serving.versions"
