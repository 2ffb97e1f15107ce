"""Finds out whether a grammar compiles, and in time, before an engine gets it."""

import asyncio
import contextlib
import hashlib
import json
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import asdict

from serving.engine import grammar_compiler
from serving.engine.grammar_compiler import Tokens, frame

_COMPILER = (sys.executable, "-P", grammar_compiler.__file__)
_AT_ONCE = 2
_REMEMBERED = 4096

_ENDED_BY_ITS_GRAMMAR = {-signal.SIGPROF, -signal.SIGSEGV, -signal.SIGABRT}
_TOO_COMPLEX = "it takes too long to compile"


class GrammarError(Exception):
    """No answer can follow a grammar, or it does not compile in the time that it may take. The
    message is the reason; its lines after the first quote the grammar or its regular expression.
    """

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.field = field
        """The field of the request that has the schema or the grammar, if it is known."""


class GrammarTimeoutError(GrammarError):
    """A grammar does not compile in the time that it may take."""


class GrammarCheck:
    """Compiles grammars for a model of those tokens in processes of its own, each grammar once, and
    remembers the verdicts.

    llguidance can neither be interrupted nor bounded in time. In an engine's process a grammar that
    takes it seconds, or for ever, would stop the answers to all requests.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = frame(json.dumps(asdict(tokens)))
        self._verdicts: dict[bytes, asyncio.Task[str]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._idle: list[Process] = []

    async def check(self, grammar: str, salt: str | None = None) -> None:
        """Returns if a grammar compiles, in the form that `llguidance.LLMatcher` takes. Raises
        GrammarError if it does not, and OSError if no process can tell. The time that it takes
        tells nothing of grammars with another `salt`."""
        key = hashlib.blake2b(f"{salt or ''}\0{grammar}".encode(), digest_size=16).digest()
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._verdicts[key] = asyncio.create_task(self._compile(grammar))
            if len(self._verdicts) > _REMEMBERED:
                del self._verdicts[next(iter(self._verdicts))]
        try:
            reason = await asyncio.shield(verdict)
        except OSError:
            self._verdicts.pop(key, None)
            raise
        if reason:
            raise GrammarTimeoutError(reason) if reason is _TOO_COMPLEX else GrammarError(reason)

    async def _compile(self, grammar: str) -> str:
        """Returns why a grammar does not compile; an empty text if it does."""
        async with self._turns:
            compiler = self._idle.pop() if self._idle else await self._start()
            assert compiler.stdin is not None and compiler.stdout is not None
            try:
                compiler.stdin.write(frame(grammar))
                size = int.from_bytes(await compiler.stdout.readexactly(4), "big")
                reason = (await compiler.stdout.readexactly(size)).decode()
            except (asyncio.IncompleteReadError, ConnectionError):
                if await compiler.wait() in _ENDED_BY_ITS_GRAMMAR:
                    return _TOO_COMPLEX
                raise OSError(f"a grammar compiler has ended: {compiler.returncode}") from None
            self._idle.append(compiler)
            return reason

    async def close(self) -> None:
        """Ends the processes that compile nothing; the others end by themselves."""
        for compiler in self._idle:
            with contextlib.suppress(ProcessLookupError):
                compiler.kill()
            await compiler.wait()

    async def _start(self) -> Process:
        compiler = await asyncio.create_subprocess_exec(
            *_COMPILER, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
        assert compiler.stdin is not None
        compiler.stdin.write(self._tokens)
        return compiler
