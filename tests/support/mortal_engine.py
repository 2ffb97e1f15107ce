"""A stand-in engine that dies of a marker in a prompt, as an engine replica does of a request: it
says of each request without a token whether it was in its last steps, and breaks off the others."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from tests.support.http_server import Connection
from tests.support.storyteller import Storyteller

CRASH, HANG, VANISH = "CRASH", "HANG", "VANISH"
"""Markers: the engine crashes, makes no progress any more, or its process is gone."""
_HANG_S = 0.3
_REASONS = {CRASH: "crash", HANG: "hang"}


class Mortal(Storyteller):
    prefill_s = 0.02
    token_s = 0.01
    death: str | None = None
    """Why it is dead."""
    hangs = False
    begun = False
    """Whether this connection has the beginning of a stream."""
    deaths: list[list[str]]
    """The prompts in the last steps of each death."""
    causes: list[str]
    """The prompt that each death was due to."""
    on_death: Callable[[], object]
    _prefilling: dict[Connection, str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.deaths, cls.causes, cls._prefilling = [], [], {}

    def answer_health(self) -> None:
        if self.death is None:
            super().answer_health()
        else:
            self._refuse(0)

    def respond(self, request: dict[str, Any]) -> None:
        if self.death is None:
            self.task = asyncio.get_running_loop().create_task(self._serve(request))
        else:
            self._refuse(0)

    async def _serve(self, request: dict[str, Any]) -> None:
        cls, prompt = type(self), json.dumps(request["messages"][0])
        if not cls.hangs:
            self._prefilling[self] = prompt
        await asyncio.sleep(self.prefill_s)
        if HANG in prompt and not cls.hangs:
            cls.hangs = True
            asyncio.get_running_loop().call_later(_HANG_S, cls.die, HANG, prompt)
        if cls.hangs:
            await asyncio.Event().wait()
        for marker in (CRASH, VANISH):
            if marker in prompt:
                cls.die(marker, prompt)
                return
        if not request.get("stream"):
            await asyncio.sleep(self.prefill_s)
        for one in [self, *(one for one in self._prefilling if one.closed.is_set())]:
            self._prefilling.pop(one, None)  # The engine has survived them.
        if request.get("stream"):
            self.begun = True
            await self.stream(request)
            self.begun = False
        else:
            self.transport.write(self.answer(request))

    @classmethod
    def die(cls, marker: str, cause: str) -> None:
        cls.causes.append(cause)
        cls.death = _REASONS.get(marker, "unreachable")
        suspects, cls._prefilling = cls._prefilling, {}
        cls.deaths.append(list(suspects.values()))
        if marker == VANISH:
            cls.listening.close()
        for connection in list(cls.connections):
            assert isinstance(connection, Mortal)
            is_idle = connection.task is None or connection.task.done()
            if marker == VANISH or connection.begun:
                connection.transport.abort()
            elif not is_idle:
                connection._refuse(len(suspects) if connection in suspects else 0)
            if connection.task is not None:
                connection.task.cancel()
        cls.on_death()

    def _refuse(self, suspects: int) -> None:
        head = "HTTP/1.1 503 X\r\nx-engine-unavailable: dead\r\ncontent-length: 0\r\n"
        head += f"x-engine-death: {self.death}\r\nx-engine-suspects: {suspects}\r\n\r\n"
        self.transport.write(head.encode())
