"""A stand-in for Hugging Face's hub: the part of its HTTP API that huggingface-hub uses."""

import hashlib
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.http_server import BackgroundServer, Request, answering, json_response, response


class Hub(BackgroundServer):
    """Repositories by id, each with one commit and its files; records the clients' requests."""

    def __init__(self) -> None:
        super().__init__(answering(self._answer))
        self.commit = "1" * 40
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.stall_after: int | None = None
        """The number of bytes after which a download of weights stalls until the client
        disconnects."""
        self.sent: dict[str, int] = {}
        """The number of bytes sent of each file."""
        self.ranges: list[str] = []
        self.tokens: set[str] = set()

    def _answer(self, request: Request) -> bytes:
        self.tokens.add((request.header(b"authorization") or b"").decode())
        path = unquote(urlsplit(request.target.decode()).path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(?:tree|revision)/([^/]+)", path):
            repository, revision, file = *match.groups(), None
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repository, revision, file = match.groups()
        else:
            return response(status=404)
        if repository in self.gated:
            return response(status=403, headers={"X-Error-Code": "GatedRepo"})
        if repository not in self.repositories:
            return response(status=404, headers={"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", self.commit):
            return response(status=404, headers={"X-Error-Code": "RevisionNotFound"})
        files = self.repositories[repository]
        if file is not None:
            return self._file(request, file, files[file])
        if "/revision/" in path:
            return json_response({"id": repository, "sha": self.commit})
        return json_response([_entry(*each) for each in files.items()])

    def _file(self, request: Request, file: str, content: bytes) -> bytes:
        headers: dict[str, object] = {
            "ETag": f'"{_etag(file, content)}"',
            "X-Repo-Commit": self.commit,
            "Accept-Ranges": "bytes",
        }
        status = 200
        if range_ := (request.header(b"range") or b"").decode():
            start = int(range_.removeprefix("bytes=").split("-")[0])
            self.ranges.append(f"{file} {range_}")
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, status = content[start:], 206
        headers["content-length"] = len(content)
        if file.endswith(".safetensors"):
            content = content[: self.stall_after]
        if request.method == b"GET":
            self.sent[file] = self.sent.get(file, 0) + len(content)
        return response(content, status, headers)


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
