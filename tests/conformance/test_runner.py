"""A failing check is one line of the report; a dead server is one message."""

import asyncio

import httpx
import pytest

from serving.conformance.check import Check
from serving.conformance.expect import CheckFailed
from serving.conformance.model import FAMILIES, UnknownFamily
from serving.conformance.needs import Need
from serving.conformance.runner import NoServer, find_model, run, run_one
from serving.conformance.server import Server
from tests.conformance.stand_in import Handler, always, completion, error, model, server

LISTED = {"id": "mistral-serve/tiny-magistral-small", "object": "model", "max_model_len": 40960}


def a_check(
    raises: Exception | None = None, *needs: Need, limit_s: float = 5.0, waits: bool = False
) -> Check:
    async def look(server: Server) -> None:
        if waits:
            await asyncio.Event().wait()
        if raises is not None:
            raise raises

    return Check("theme", "name", "meaning", look, needs, limit_s)


def a_server() -> Server:
    return server(always(completion("x")))


UNMET = a_check(CheckFailed("ran"), lambda _: None, lambda _: "no eyes")


@pytest.mark.parametrize(
    ("check", "status", "reason"),
    [
        (a_check(), "pass", ""),
        (a_check(CheckFailed("two\n  lines")), "fail", "two lines"),
        (a_check(KeyError("x")), "fail", "an answer of another shape: KeyError: 'x'"),
        (a_check(httpx.ReadError("reset")), "fail", "the connection broke: ReadError: reset"),
        (a_check(httpx.ConnectError("no")), "fail", "no connection: ConnectError: no"),
        (a_check(limit_s=0.01, waits=True), "fail", "not done within 0.01 s"),
        (UNMET, "skip", "no eyes"),
    ],
)
async def test_a_check_has_a_status_and_a_reason_of_one_line(
    check: Check, status: str, reason: str
) -> None:
    result = await run_one(a_server(), check)
    assert (result.status, result.reason) == (status, reason)


async def test_a_server_that_goes_ends_the_run() -> None:
    gone = a_check(httpx.ConnectError("refused"))
    results = [r async for r in run(a_server(), [a_check(), gone, a_check(), gone, gone, gone])]
    assert [r.status for r in results] == ["pass", "fail", "pass", "fail", "fail", "skip"]
    assert results[-1].reason == "the server is gone"


def client(handler: Handler) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(handler), base_url="http://stand-in")


async def test_the_model_is_the_first_one_or_the_named_one() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        other = {"id": "mistralai/Mistral-Small-24B-Instruct-2501", "max_model_len": 32768}
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"object": "list", "data": [LISTED, other]})
        assert request.url.path == "/v1/models/small"  # an alias
        return httpx.Response(200, json=other)

    first = await find_model(client(handle), None, None, None)
    assert (first.id, first.family, first.tiny) == (LISTED["id"], FAMILIES["magistral"], True)
    assert first.context_tokens == 40960
    named = await find_model(client(handle), "small", None, None)
    assert (named.family, named.tiny, named.context_tokens) == (FAMILIES["2501"], False, 32768)
    found = await find_model(client(handle), "small", FAMILIES["3.2"], True)
    assert (found.family, found.tiny) == (FAMILIES["3.2"], True)


async def test_a_server_without_single_models_is_searched_by_its_list() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [LISTED]})
        return httpx.Response(404, json={"detail": "Not Found"})

    assert (await find_model(client(handle), str(LISTED["id"]), None, None)).id == LISTED["id"]
    with pytest.raises(NoServer, match="has no model 'other'"):
        await find_model(client(handle), "other", None, None)


async def test_a_name_that_tells_nothing_needs_a_family() -> None:
    listed = {"data": [{"id": "my-model"}]}
    with pytest.raises(UnknownFamily, match="my-model"):
        await find_model(client(always(listed)), None, None, None)
    found = await find_model(client(always(listed)), None, FAMILIES["2501"], None)
    assert found.context_tokens == 131072


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("Connection refused")


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (refuse, "nothing answers at http://stand-in"),
        (always(error("no key", 401)), "401"),
        (always(httpx.Response(200, text="<html>")), "not JSON"),
        (always({"data": []}), "lists no model"),
        (always([]), "lists no model"),
    ],
)
async def test_what_is_no_such_server_is_said(handler: Handler, reason: str) -> None:
    with pytest.raises(NoServer, match=reason):
        await find_model(client(handler), None, None, None)


def test_models_differ_by_family() -> None:
    assert model("2501").family.vision is False
