"""A stand-in for Hugging Face's hub: what huggingface-hub asks of it, over HTTP."""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """Repositories by id: of each its one commit and its files. What clients do is noted."""

    commit: str = "1" * 40
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    stall_after: int | None = None
    """A download of weights stops after so many bytes, until the client goes away."""
    url: str = ""
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes by file."""
    ranges: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        of = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    of: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.of.tokens.add(self.headers.get("Authorization", ""))
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(tree|revision)/([^/]+)", path):
            self._api(*match.groups())
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*match.groups())
        else:
            self._answer(404, b"")

    def _refused(self, repository: str, revision: str) -> bool:
        if repository in self.of.gated:
            self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
        elif repository not in self.of.repositories:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", self.of.commit):
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            return False
        return True

    def _api(self, repository: str, what: str, revision: str) -> None:
        if self._refused(repository, revision):
            return
        if what == "revision":
            self._json({"id": repository, "sha": self.of.commit})
            return
        self._json([_entry(*file) for file in self.of.repositories[repository].items()])

    def _json(self, document: Any) -> None:
        self._answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _file(self, repository: str, revision: str, file: str) -> None:
        if self._refused(repository, revision):
            return
        content = self.of.repositories[repository][file]
        headers = {
            "ETag": f'"{_etag(file, content)}"',
            "X-Repo-Commit": self.of.commit,
            "Accept-Ranges": "bytes",
        }
        status = 200
        if range_ := self.headers.get("Range"):
            start = int(range_.removeprefix("bytes=").split("-")[0])
            self.of.ranges.append(f"{file} {range_}")
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, status = content[start:], 206
        self._answer(status, content, headers, file)

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, file: str = ""
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        stalls = file.endswith(".safetensors") and self.of.stall_after is not None
        body = body[: self.of.stall_after] if stalls else body
        self.wfile.write(body)
        self.of.sent[file] = self.of.sent.get(file, 0) + len(body)
        if stalls:
            with contextlib.suppress(ConnectionError):
                self.rfile.read(1)
            self.close_connection = True


def _etag(file: str, content: bytes) -> str:
    if file.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(file: str, content: bytes) -> dict[str, Any]:
    etag = _etag(file, content)
    entry = {"type": "file", "path": file, "size": len(content), "oid": etag[:40]}
    if file.endswith(".safetensors"):
        entry["lfs"] = {"oid": etag, "size": len(content), "pointerSize": 134}
    return entry
