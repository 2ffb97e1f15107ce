"""A router for tests of `deploy`: streamed chat answers of models, good or bad as a test says."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Manner:
    """How it answers: `status` other than 200 refuses, `cut` ends a stream in its midst."""

    models: tuple[str, ...]
    status: int = 200
    ttft_s: float = 0.0
    cut: bool = False


@contextmanager
def router(manner: Callable[[], Manner]) -> Iterator[str]:
    """Its URL while the context is open; `manner` is asked at each request."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            data = [{"id": each, "object": "model"} for each in manner().models]
            self._send(200, json.dumps({"object": "list", "data": data}).encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            now = manner()
            if now.status != 200:
                self._send(now.status, b'{"error": {"message": "no", "type": "server_error"}}')
                return
            time.sleep(now.ttft_s)
            event = {"choices": [{"index": 0, "delta": {"content": "Paris"}}]}
            self._send(
                200,
                b"data: " + json.dumps(event).encode() + b"\n\n"
                + (b"" if now.cut else b"data: [DONE]\n\n"),
            )  # fmt: skip

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
