"""The router's OpenAPI description: it has all endpoints, and whatever is sent to them is answered
as it says."""

import asyncio
import http.client
import json
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import psutil
import pytest
from hypothesis import HealthCheck, given, settings

from serving.config import BatchesConfig, ResponsesConfig
from serving.mistral import InvalidRequest
from serving.requests import chat, completions, messages, responses, tokenize
from serving.router.http.server import HttpServer, listening_socket
from tests.support.batch_files import lines
from tests.support.described_requests import DescribedRequest, requests
from tests.support.http_server import Request, json_response
from tests.support.live_router import CHAT, MODEL, running_router
from tests.support.reading import READING
from tests.support.response_engine import ResponseEngine
from tests.support.stand_in_engine import DONE, STREAM_HEAD, chunk, stream_events

MIB = 1024 * 1024
DAMAGED = 7
"""How often each generated request is sent with a few bytes changed."""
READERS = {
    CHAT: chat.read,
    "/v1/completions": completions.read,
    "/v1/responses": responses.read,
    "/v1/responses/input_tokens": responses.read_count,
    "/v1/messages": messages.read,
    "/v1/messages/count_tokens": messages.read_count,
    "/tokenize": tokenize.read,
    "/detokenize": lambda raw, *_: tokenize.read_tokens(raw),
}


class ReadingEngine(ResponseEngine):
    """Reads requests as the engine does, and answers each that it can read in a few words."""

    def receive(self, request: Request) -> None:
        if not request.body:
            super().receive(request)
            return
        path = request.target.decode()
        try:
            READERS[path](request.body, *READING)
        except InvalidRequest as error:
            answer = {"message": error.message, "type": "", "code": error.code}
            self.transport.write(json_response({"error": answer}, 400))
            return
        body = json.loads(request.body)
        if path == "/v1/responses":
            self.respond({"model": body.get("model"), "stream": body.get("stream")})
        elif body.get("stream") in (True, "true"):
            first, token, last = map(chunk, stream_events("1", MODEL))
            self.transport.write(STREAM_HEAD + first + token + last + chunk(DONE) + b"0\r\n\r\n")
        else:
            self.transport.write(json_response({"choices": [], "usage": {"output_tokens": 1}}))


async def main() -> None:
    """Prints the port and serves."""
    folder = Path(tempfile.mkdtemp())
    async with running_router(
        ReadingEngine,
        ui=True,
        ledger_folder=folder / "ledger",
        responses=ResponsesConfig(folder=str(folder / "responses"), max_bytes=4 * MIB),
        batches=BatchesConfig(folder=str(folder / "batches"), max_bytes=4 * MIB),
    ) as router:
        sock = listening_socket("127.0.0.1", 0)
        sock.listen()
        print(sock.getsockname()[1], flush=True)
        await HttpServer(router.app, sock).run_until_stopped()


@dataclass
class Answer:
    status: int
    content_type: str
    body: bytes


@dataclass
class Client:
    """A client that keeps connections open."""

    port: int
    process: psutil.Process
    answers: dict[int, int] = field(default_factory=dict)
    """The number of answers of each status."""
    _idle: list[socket.socket] = field(default_factory=list)

    @property
    def memory_mib(self) -> float:
        return float(self.process.memory_info().rss) / MIB

    @cached_property
    def document(self) -> Any:
        request = DescribedRequest("GET", "", "/openapi.json", (), b"")
        return json.loads(self.ask(request)[0].body)

    def ask(self, *requests: DescribedRequest) -> list[Answer]:
        """Sends the requests at the same time. Raises TimeoutError if one has no answer within a
        minute."""
        return [self._answer(*sent) for sent in [(self._send(one), one) for one in requests]]

    def _send(self, request: DescribedRequest) -> socket.socket:
        sock = self._idle.pop() if self._idle else self._connect()
        sock.sendall(request.raw)
        return sock

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def _answer(self, sock: socket.socket, request: DescribedRequest) -> Answer:
        with http.client.HTTPResponse(sock, method=request.method) as response:
            response.begin()
            content_type = (response.getheader("content-type") or "").partition(";")[0]
            answer = Answer(response.status, content_type, response.read())
            if response.will_close or answer.status >= 500:
                sock.close()
            else:
                self._idle.append(sock)
        self.answers[answer.status] = self.answers.get(answer.status, 0) + 1
        return answer

    def post(self, path: str, content_type: bytes, body: bytes) -> Any:
        request = DescribedRequest("POST", path, path, ((b"content-type", content_type),), body)
        (answer,) = self.ask(request)
        assert answer.status == 200, answer
        return json.loads(answer.body)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with subprocess.Popen(
        [sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield Client(int(process.stdout.readline()), psutil.Process(process.pid))
        process.kill()


def test_it_has_each_endpoint_with_its_methods(client: Client) -> None:
    """An endpoint answers another method than those described with those that are."""
    for path, operations in client.document["paths"].items():
        target = path.replace("{", "").replace("}", "")
        (answer,) = client.ask(DescribedRequest("PATCH", path, target, (), b""))
        assert answer.status == 405, path
        message = json.loads(answer.body)["error"]["message"]
        allowed = message.rpartition(" use ")[2].rstrip(".").split(", ")
        assert {method.upper() for method in operations} == set(allowed), path


def test_whatever_is_sent_is_answered_as_described(client: Client) -> None:
    send(client, 60)


@pytest.mark.full
def test_twenty_thousand_requests_are_answered_as_described(client: Client) -> None:
    send(client, 400)
    before_mib = client.memory_mib
    send(client, 20_000 // (1 + DAMAGED))
    grown_mib = client.memory_mib - before_mib
    print(f"20,000 requests: {grown_mib:.0f} MiB more; {sorted(client.answers.items())}")
    assert grown_mib < 32


def send(client: Client, count: int) -> None:
    """Sends as many generated requests, each of them with damages too, and checks all answers."""
    form = b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\n'
    form += b'content-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n%b\r\n--b--'
    file_id = client.post("/v1/files", b"multipart/form-data; boundary=b", form % lines(2))["id"]
    wanted = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    batch_id = client.post("/v1/batches", b"application/json", json.dumps(wanted).encode())["id"]
    asked = json.dumps({"model": MODEL, "input": "Hi"}).encode()
    response_id = client.post("/v1/responses", b"application/json", asked)["id"]
    known = {
        "model": [MODEL, "small"],
        "name": [MODEL, "small"],
        "file_id": [file_id],
        "input_file_id": [file_id],
        "batch_id": [batch_id],
        "response_id": [response_id],
        "previous_response_id": [response_id],
    }

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(requests(client.document, known))
    def ask(request: DescribedRequest) -> None:
        rng = random.Random(request.body)
        sent = [request, *(request.damaged(rng) for _ in range(DAMAGED))]
        for one, answer in zip(sent, client.ask(*sent), strict=True):
            check(client.document, one, answer)

    ask()


def check(document: Any, request: DescribedRequest, answer: Answer) -> None:
    """Checks that an answer is one of those described, and no failure of the service."""
    assert answer.status < 500
    operation = document["paths"][request.path].get(request.method.lower())
    if operation is None:
        operation = document["paths"][request.path].get(
            "get" if request.method == "HEAD" else "", {}
        )
    described = operation.get("responses", {})
    form = described.get(str(answer.status)) or described.get(f"{answer.status // 100}XX")
    if form is None:  # a method that is not described
        assert answer.status in (400, 404, 405, 413)
        return
    content = form.get("content", {"": {}})
    assert answer.content_type in content, (answer, list(content))
    if answer.status >= 400 and request.method != "HEAD":
        name = content[answer.content_type]["schema"]["$ref"].rpartition("/")[2]
        error_schema = document["components"]["schemas"][name]
        jsonschema.Draft202012Validator(error_schema).validate(json.loads(answer.body))


if __name__ == "__main__":
    asyncio.run(main())
