import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from serving.engine.access import AccessMiddleware
from tests.support.waiting import eventually

TOKEN = "a-token"
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}
UNAUTHORIZED = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer "},
    {"authorization": "Bearer a-toke"},
    {"authorization": "Bearer a-token2"},
    {"authorization": "bearer a-token"},
    {"authorization": "Basic a-token"},
    {"authorization": TOKEN},
    {"authorization": b"Bearer \xff\xfe"},
    {"x-api-key": TOKEN},
]


@dataclass
class Engine:
    """An application behind the middleware. Requests to /slow are answered once `finish` is set."""

    dead: bool = False
    dies_of_bugs: bool = False
    status: int = 200
    requests: int = 0
    finish: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        routes = [
            Route("/slow", self.slow, methods=["GET", "POST"]),
            Route("/stream", self.stream),
            Route("/{path:path}", self.fast, methods=["GET", "POST"]),
        ]
        self.routes = Starlette(routes=routes)
        self.access = AccessMiddleware(self.app, TOKEN, lambda: "crash" if self.dead else None)
        self.transport = httpx.ASGITransport(self.access)
        self.http = httpx.AsyncClient(
            transport=self.transport, base_url="http://engine", verify=False
        )

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/broken":
            self.dead = self.dies_of_bugs
            raise RuntimeError("a bug")
        await self.routes(scope, receive, send)

    async def fast(self, request: Request) -> Response:
        self.requests += 1
        return PlainTextResponse("answer", self.status, headers={"x-of-engine": "yes"})

    async def slow(self, request: Request) -> Response:
        self.requests += 1
        await self.finish.wait()
        return PlainTextResponse("answer", self.status)

    async def stream(self, request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"a"
            await self.finish.wait()
            if self.dead:
                raise RuntimeError("the engine is dead")
            yield b"b"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    async def get(self, path: str = "/") -> httpx.Response:
        return await self.http.get(path, headers=AUTHORIZED)

    async def begin(self, path: str = "/slow") -> asyncio.Task[httpx.Response]:
        """Begins a request that stays in the application until `finish`."""
        inside = self.access.in_flight
        answer = asyncio.create_task(self.get(path))
        await eventually(lambda: self.access.in_flight == inside + 1)
        return answer


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine()
    yield engine
    await engine.http.aclose()
    assert engine.access.in_flight == 0


def assert_unavailable(response: httpx.Response, why: str) -> None:
    assert response.status_code == 503
    assert response.headers["x-engine-unavailable"] == why
    assert response.content == b""


async def test_the_token_lets_a_request_in_and_its_answer_out(engine: Engine) -> None:
    response = await engine.get()
    assert (response.status_code, response.text) == (200, "answer")
    assert response.headers["x-of-engine"] == "yes"


@pytest.mark.parametrize("headers", UNAUTHORIZED)
@pytest.mark.parametrize("path", ["/", "/health", "/metrics/", "/v1/models", "/slow", "/nowhere"])
async def test_without_the_token_nothing_is_said_of_what_is_here(
    engine: Engine, path: str, headers: dict[str, Any]
) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        response = await engine.http.request(method, path, headers=headers)
        assert response.status_code == 401
        assert response.content == b""
        assert dict(response.headers) == {"www-authenticate": "Bearer", "content-length": "0"}
    assert engine.requests == 0


async def test_a_stranger_learns_not_even_that_the_engine_is_dead_or_draining(
    engine: Engine,
) -> None:
    engine.dead = True
    assert (await engine.http.get("/")).status_code == 401
    await engine.access.drain(timeout_s=0)
    assert (await engine.http.get("/")).status_code == 401


async def test_metrics_are_served_at_all_times_to_whoever_can_reach_the_port(
    engine: Engine,
) -> None:
    async def scraped() -> int:
        return (await engine.http.get("/metrics")).status_code

    assert await scraped() == 200
    assert (await engine.http.post("/metrics")).status_code == 401
    waits = await engine.begin()
    draining = asyncio.create_task(engine.access.drain(timeout_s=3600))
    await asyncio.sleep(0)
    assert await scraped() == 200
    assert not draining.done()
    engine.finish.set()
    await waits
    assert await draining == 0
    engine.dead = True
    assert await scraped() == 200


async def test_routers_alone_learn_the_usage_at_all_times(engine: Engine) -> None:
    engine.dead = True
    await engine.access.drain(timeout_s=0)
    assert (await engine.get("/usage")).status_code == 200
    assert (await engine.http.get("/usage")).status_code == 401


async def test_while_draining_no_request_comes_in(engine: Engine) -> None:
    assert await engine.access.drain(timeout_s=3600) == 0
    assert_unavailable(await engine.get(), "draining")
    assert engine.requests == 0


@pytest.mark.parametrize("path", ["/health", "/v1/models"])
async def test_while_draining_it_tells_routers_how_long(engine: Engine, path: str) -> None:
    answer = await engine.begin()
    drained = asyncio.create_task(engine.access.drain(timeout_s=3600))
    await asyncio.sleep(0)
    assert int((await engine.get(path)).headers["x-engine-drain-left-s"]) in range(3500, 3601)
    engine.access.end_within(100)
    engine.access.end_within(200)
    assert int((await engine.get(path)).headers["x-engine-drain-left-s"]) in range(50, 101)
    engine.access.end_within(-1)
    assert await drained == 1
    assert (await engine.get(path)).headers["x-engine-drain-left-s"] == "0"
    engine.finish.set()
    assert (await answer).status_code == 200


async def test_before_it_drains_health_checks_alone_tell_that_its_node_goes(engine: Engine) -> None:
    assert "x-engine-drain-left-s" not in (await engine.get("/health")).headers
    engine.access.end_within(100)
    health, other = await engine.get("/health"), await engine.get()
    assert (health.status_code, other.status_code) == (200, 200)
    assert int(health.headers["x-engine-drain-left-s"]) in range(50, 101)
    assert "x-engine-drain-left-s" not in other.headers


async def test_a_drain_waits_for_the_requests_inside(engine: Engine) -> None:
    answers = [await engine.begin("/slow"), await engine.begin("/stream")]
    drained = asyncio.create_task(engine.access.drain(timeout_s=3600))
    await asyncio.sleep(0)
    assert_unavailable(await engine.get(), "draining")
    assert not drained.done()
    engine.finish.set()
    assert [(await answer).text for answer in answers] == ["answer", "ab"]
    async with asyncio.timeout(5):
        assert await drained == 0


async def test_a_drain_ends_at_its_timeout_and_counts_what_is_left(engine: Engine) -> None:
    answers = [await engine.begin(), await engine.begin()]
    assert await engine.access.drain(timeout_s=0.01) == 2
    engine.finish.set()
    assert [(await answer).status_code for answer in answers] == [200, 200]
    assert await engine.access.drain(timeout_s=3600) == 0


async def test_a_client_that_leaves_is_no_longer_waited_for(engine: Engine) -> None:
    answer = await engine.begin()
    drained = asyncio.create_task(engine.access.drain(timeout_s=3600))
    await asyncio.sleep(0)
    answer.cancel()
    async with asyncio.timeout(5):
        assert await drained == 0


async def test_a_dead_engine_is_asked_nothing(engine: Engine) -> None:
    engine.dead = True
    assert_unavailable(await engine.get(), "dead")
    assert engine.requests == 0


async def test_a_request_inside_when_the_engine_dies_may_still_be_answered(engine: Engine) -> None:
    answer = await engine.begin()
    engine.dead = True
    engine.finish.set()
    assert ((await answer).status_code, (await answer).text) == (200, "answer")


@pytest.mark.parametrize("dead", [False, True])
async def test_an_exception_is_an_error_that_another_replica_may_repair_if_the_engine_is_dead(
    engine: Engine, dead: bool
) -> None:
    engine.dies_of_bugs = dead
    engine.transport.raise_app_exceptions = False
    response = await engine.get("/broken")
    if dead:
        assert_unavailable(response, "dead")
    else:
        assert response.status_code == 500
        assert "x-engine-unavailable" not in response.headers


@pytest.mark.parametrize("status", [500, 503])
async def test_a_live_engines_error_is_left_as_it_is(engine: Engine, status: int) -> None:
    engine.status = status
    response = await engine.get()
    assert (response.status_code, response.text) == (status, "answer")
    assert "x-engine-unavailable" not in response.headers


async def test_a_stream_of_an_engine_that_dies_is_left_without_an_end(engine: Engine) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", AUTHORIZED["authorization"].encode())]
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/stream"}
    scope |= {"headers": headers, "query_string": b"", "root_path": ""}
    answer = asyncio.create_task(engine.access(scope, receive, send))
    await eventually(lambda: len(sent) == 2)
    engine.dead = True
    engine.finish.set()
    with pytest.raises(RuntimeError, match="dead"):
        await answer
    assert [(m["type"], m.get("body")) for m in sent] == [
        ("http.response.start", None),
        ("http.response.body", b"a"),
    ]


async def test_what_is_no_request_passes() -> None:
    """The application's own startup event, which has no token."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    async def unused(*_: Any) -> Any:
        raise AssertionError

    await AccessMiddleware(app, TOKEN, lambda: "crash")({"type": "lifespan"}, unused, unused)
    assert seen == ["lifespan"]
