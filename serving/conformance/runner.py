"""Runs checks one after the other, each within its time limit."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from .check import Check
from .expect import CheckFailed
from .model import Family, Model, family_of
from .server import Server, ok

_LOST_AFTER = 2
"""Number of checks in a row that find no server, after which the rest is skipped."""
_LIST_TIMEOUT_S = 20
_MODELS = "/v1/models"
_CONTEXT_TOKENS = 131072  # where a server reports none: the longest of the cards

_NO_CONNECTION = "no connection"

Status = Literal["pass", "fail", "skip"]


class NoServer(Exception):
    """Nothing at the address can be checked; the message says what to do."""


@dataclass(frozen=True)
class Result:
    """The result of a check. `reason` says why it failed or was skipped, and is "" if it passed."""

    check: Check
    status: Status
    reason: str
    duration_s: float


async def find_model(
    http: httpx.AsyncClient, name: str | None, family: Family | None, tiny: bool | None
) -> Model:
    """The served model of that name or, without a name, the first one. If `tiny` is None, the
    model's id decides. Raises NoServer, or UnknownFamily if `family` is None and the id does not
    tell it."""
    try:
        async with asyncio.timeout(_LIST_TIMEOUT_S):
            entry = await _listed(http, name)
    except TimeoutError:
        raise NoServer(f"{http.base_url} did not answer within {_LIST_TIMEOUT_S} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoServer(f"nothing answers at {http.base_url}: {_words(error)}") from None
    except CheckFailed as error:
        raise NoServer(f"GET {_MODELS} of {http.base_url} gives {error}") from None
    except (LookupError, AttributeError, TypeError):
        raise NoServer(f"GET {_MODELS} of {http.base_url} lists no model as OpenAI does") from None
    model_id, context_tokens = str(entry["id"]), entry.get("max_model_len")
    return Model(
        id=model_id,
        family=family or family_of(model_id),
        context_tokens=context_tokens if isinstance(context_tokens, int) else _CONTEXT_TOKENS,
        tiny="tiny" in model_id if tiny is None else tiny,
    )


async def _listed(http: httpx.AsyncClient, name: str | None) -> Any:
    """The model's entry in the server's list; an alias is looked up by itself."""
    entries = {entry["id"]: entry for entry in ok(await http.get(_MODELS))["data"]}
    if name is None:
        return entries[next(iter(entries), "")]
    if name in entries:
        return entries[name]
    response = await http.get(f"{_MODELS}/{name}")
    if response.status_code != 200:
        raise NoServer(f"{http.base_url} has no model '{name}'; it has: {', '.join(entries)}")
    return ok(response)


async def run(server: Server, checks: Iterable[Check]) -> AsyncIterator[Result]:
    """Yields the result of each check when it is there. Once the server is gone, the rest is
    skipped."""
    lost = 0
    for check in checks:
        if lost >= _LOST_AFTER:
            yield Result(check, "skip", "the server is gone", 0.0)
            continue
        result = await run_one(server, check)
        lost = lost + 1 if result.reason.startswith(_NO_CONNECTION) else 0
        yield result


async def run_one(server: Server, check: Check) -> Result:
    """Runs a check. Any exception is a failure, with a reason of one line."""
    for need in check.needs:
        if reason := need(server):
            return Result(check, "skip", reason, 0.0)
    start_s = time.monotonic()
    reason = ""
    try:
        async with asyncio.timeout(check.limit_s):
            await check.run(server)
    except CheckFailed as error:
        reason = str(error)
    except TimeoutError:
        reason = f"not done within {check.limit_s:g} s"
    except httpx.ConnectError as error:
        reason = f"{_NO_CONNECTION}: {_words(error)}"
    except httpx.HTTPError as error:
        reason = f"the connection broke: {_words(error)}"
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"an answer of another shape: {_words(error)}"
    status: Status = "fail" if reason else "pass"
    return Result(check, status, " ".join(reason.split()), time.monotonic() - start_s)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
