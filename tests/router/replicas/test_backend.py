"""External servers: how requests are addressed to them, and how their health is checked."""

import asyncio
import contextlib
import logging
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serving.mistral import ModelRules
from serving.router.http.errors import ApiError
from serving.router.replicas.backend import Backend
from serving.router.replicas.backend_health import BackendHealth
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from tests.support.engines import Engine
from tests.support.http_server import Connection, Request, response, running
from tests.support.live_router import StartRouter
from tests.support.waiting import eventually

KEY = "OTHER_SERVERS_KEY"
SECRET = "sk-secret"


@pytest.mark.parametrize(
    ("base_url", "host", "port", "tls", "path"),
    [
        ("http://ollama:11434/v1", "ollama", 11434, False, b"/v1/chat/completions"),
        ("http://ollama:11434/v1/", "ollama", 11434, False, b"/v1/chat/completions"),
        ("https://llm.test/openai/v1", "llm.test", 443, True, b"/openai/v1/chat/completions"),
        ("http://[::1]", "::1", 80, False, b"/chat/completions"),
    ],
)
def test_a_base_url_says_where_requests_go(
    base_url: str, host: str, port: int, tls: bool, path: bytes
) -> None:
    backend = Backend(base_url, "m", 1000)
    assert (backend.host, backend.port, backend.tls) == (host, port, tls)
    assert backend.path("/v1/chat/completions") == path


def test_it_has_no_endpoints_of_vllms_own() -> None:
    with pytest.raises(ApiError) as raised:
        Backend("http://ollama/v1", "m", 1000).path("/tokenize")
    assert raised.value.status == 404


def test_a_missing_key_is_reported_by_its_variables_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    with pytest.raises(RuntimeError, match=KEY):
        BackendHealth(Backend("http://ollama/v1", "m", 1000, KEY), lambda _: None)


async def test_a_request_goes_to_it_with_its_name_its_key_and_the_models_defaults(
    start_router: StartRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, SECRET)
    rules = ModelRules(
        "me/small", "v7", 1000, image_limit=0, sampling={"temperature": 0.7}, other_server=True
    )
    backend = Backend("http://other.test:1234/api", "small:24b-q8_0", 1000, KEY)
    model = Model("me/small", ("small",), rules, backend)
    router = await start_router(Engine, models=[model])
    response = await router.chat({"authorization": "Bearer the-clients-own"}, model="small")
    assert response.status_code == 200
    (received,) = router.engines[0].received
    assert received.target == b"/api/chat/completions"
    assert received.header(b"host") == b"other.test:1234"
    assert received.header(b"authorization") == b"Bearer " + SECRET.encode()
    assert received.body == b'{"model":"small:24b-q8_0","temperature":0.7}'
    response = await router.http.post("/tokenize", json={"model": "small", "prompt": "x"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


class Elsewhere(Connection):
    """Answers health checks with `status`; closes the connection if that is 0."""

    status: int
    models: bytes
    received: list[Request]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.status, cls.models, cls.received = 200, b'{"data": [{"id": "m"}]}', []

    def receive(self, request: Request) -> None:
        self.received.append(request)
        if self.status:
            self.transport.write(response(self.models, self.status))
        else:
            self.transport.close()


@pytest.fixture
def elsewhere() -> type[Elsewhere]:
    return type("AnotherServer", (Elsewhere,), {})


@contextlib.asynccontextmanager
async def watched(backend: Backend) -> AsyncIterator[list[list[ReplicaInfo]]]:
    """Yields the list of all updates that the listener receives."""
    updates: list[list[ReplicaInfo]] = []
    task = asyncio.create_task(BackendHealth(backend, updates.append, period_s=0.01).run())
    try:
        yield updates
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_it_is_a_replica_while_it_answers(
    elsewhere: type[Elsewhere], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(KEY, SECRET)
    async with (
        running(elsewhere) as port,
        watched(Backend(f"http://127.0.0.1:{port}/v1", "m", 1000, KEY)) as updates,
    ):
        await eventually(lambda: len(updates) == 1)
        ((replica,),) = updates
        assert (f"{replica.host}:{replica.port}", replica.max_model_len) == (
            f"127.0.0.1:{port}",
            1000,
        )
        request = elsewhere.received[0]
        assert (request.method, request.target) == (b"GET", b"/v1/models")
        assert request.header(b"authorization") == b"Bearer " + SECRET.encode()
        elsewhere.status = 503
        await eventually(lambda: len(updates) == 2)
        elsewhere.status = 200
        await eventually(lambda: len(updates) == 3)
        elsewhere.status = 0
        await eventually(lambda: len(updates) == 4)
        assert updates == [[replica], [], [replica], []]
    assert SECRET not in caplog.text


async def test_one_lost_answer_does_not_eject_it(elsewhere: type[Elsewhere]) -> None:
    async with (
        running(elsewhere) as port,
        watched(Backend(f"http://127.0.0.1:{port}/v1", "m", 1000)) as updates,
    ):
        await eventually(lambda: len(updates) == 1)
        before = len(elsewhere.received)
        elsewhere.status = 503
        await eventually(lambda: len(elsewhere.received) == before + 1)
        elsewhere.status = 200
        await eventually(lambda: len(elsewhere.received) > before + 3)
        assert len(updates) == 1


async def test_a_rejected_key_is_logged(
    elsewhere: type[Elsewhere], caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere.status = 401
    with caplog.at_level(logging.WARNING):
        async with (
            running(elsewhere) as port,
            watched(Backend(f"http://127.0.0.1:{port}/v1", "m", 1000)) as updates,
        ):
            await eventually(lambda: len(elsewhere.received) > 2)
            assert updates == [[]]
    assert [record.getMessage() for record in caplog.records] == [
        f"m at 127.0.0.1:{port} is down: "
        "it answers 401: check the key in the variable that api_key_env names"
    ]


@pytest.mark.parametrize(
    ("status", "models", "says"),
    [
        (200, b'{"data": [{"id": "m"}, {"id": "n"}]}', "up"),
        (200, b'{"data": [{"id": "m:latest"}]}', "up"),
        (
            200,
            b'[{"id": "n:7b"}, {"id": "o"}]',
            "up, but does not list this model. It has: n:7b, o; upstream_model is its name there",
        ),
        (
            200,
            b'{"object": "list", "data": null}',
            "up, but does not list this model. It has: none; upstream_model is its name there",
        ),
        (
            200,
            b'{"error": "Unexpected endpoint or method. (GET /models)"}',
            "down: its answer lists no models: check base_url, which mostly ends in /v1",
        ),
        (
            404,
            b"404 page not found",
            "down: it answers 404: check base_url, which mostly ends in /v1",
        ),
    ],
)
async def test_what_the_list_of_its_models_says_is_logged(
    elsewhere: type[Elsewhere],
    caplog: pytest.LogCaptureFixture,
    status: int,
    models: bytes,
    says: str,
) -> None:
    elsewhere.status, elsewhere.models = status, models
    async with (
        running(elsewhere) as port,
        watched(Backend(f"http://127.0.0.1:{port}/v1", "m", 1000)) as updates,
    ):
        await eventually(lambda: len(updates) == 1)
    assert caplog.messages == [f"m at 127.0.0.1:{port} is {says}"]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Returns a self-signed certificate for 127.0.0.1, and its key."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -out {certificate} -keyout {key}"
    command += " -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(command.split(), check=True, capture_output=True)
    return certificate, key


@pytest.mark.parametrize("trusted", [True, False])
async def test_https_is_spoken_to_a_trusted_server_alone(
    elsewhere: type[Elsewhere],
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    trusted: bool,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    async with (
        running(elsewhere, context) as port,
        watched(Backend(f"https://127.0.0.1:{port}/v1", "m", 1000)) as updates,
    ):
        await eventually(lambda: len(updates) == 1)
        assert bool(updates[0]) == trusted
