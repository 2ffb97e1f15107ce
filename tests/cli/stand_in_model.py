"""`mistral-serve` with a stand-in for the model that `batch --model` runs in its own process.

It answers 20 requests, and holds at the next or, with `HOLD=start`, at its start; at its end it
says so on stdout, which is the engine's log.
"""

import asyncio
import json
import os
import time
from unittest.mock import patch

import httpx

from serving.cli import batch_offline, main
from serving.config import ModelConfig
from tests.support.scripted_service import completion

ANSWERS = 20
STARTED, ENDED = "started", "ended"


class StandInModel(httpx.AsyncBaseTransport):
    """The interface of `OfflineModel`."""

    max_num_seqs = 1

    def __init__(self, _: ModelConfig) -> None:
        self._answers = 0

    async def start(self) -> None:
        print(STARTED, flush=True)
        if os.environ.get("HOLD") == "start":
            time.sleep(600)  # noqa: ASYNC251  # vLLM's start does not yield to the loop

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._answers == ANSWERS:
            await asyncio.Event().wait()
        self._answers += 1
        return httpx.Response(
            200, content=completion(json.loads(request.content)["messages"][0]["content"])
        )

    async def aclose(self) -> None:
        print(ENDED, flush=True)


if __name__ == "__main__":
    with patch.object(batch_offline, "OfflineModel", StandInModel):
        main()
