"""A check of grammars that several tests share, so that its processes start once."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from serving.engine.grammar_check import GrammarCheck
from serving.engine.grammar_compiler import Tokens


@dataclass(frozen=True)
class SharedCheck:
    """Has the grammars of one front end checked on another event loop."""

    checks: GrammarCheck
    loop: asyncio.AbstractEventLoop

    async def check(self, grammar: str, salt: str | None = None) -> None:
        await asyncio.wrap_future(_on(self.loop, self.checks.check(grammar, salt)))

    async def close(self) -> None:
        """Leaves the processes to the other front ends."""


def _on(loop: asyncio.AbstractEventLoop, call: Coroutine[Any, Any, None]) -> Future[None]:
    return asyncio.run_coroutine_threadsafe(call, loop)


@contextlib.contextmanager
def shared_checks() -> Iterator[Callable[[Tokens], SharedCheck]]:
    """Takes the place of `GrammarCheck` for all front ends of models with the same tokens, on an
    event loop that outlives those of the tests."""
    checks: dict[str, GrammarCheck] = {}
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda tokens: SharedCheck(
            checks.setdefault(repr(tokens), GrammarCheck(tokens)), loop
        )
        for check in checks.values():
            _on(loop, check.close()).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
