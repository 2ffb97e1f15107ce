"""A server with an OpenAI-compatible API that runs elsewhere, such as Ollama or LM Studio."""

import os
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

from serving.router.http.errors import ApiError


@dataclass(frozen=True)
class Backend:
    """How a model's requests are addressed to its external server."""

    base_url: str
    """URL up to where the API's paths begin, such as http://ollama:11434/v1."""
    model: str
    """The server's own name for the model."""
    context_tokens: int
    api_key_env: str | None = None

    @cached_property
    def host(self) -> str:
        return urlsplit(self.base_url).hostname or ""

    @property
    def tls(self) -> bool:
        return self.base_url.startswith("https:")

    @cached_property
    def port(self) -> int:
        return urlsplit(self.base_url).port or (443 if self.tls else 80)

    @cached_property
    def host_header(self) -> bytes:
        return urlsplit(self.base_url).netloc.rpartition("@")[-1].encode()

    @cached_property
    def authorization(self) -> bytes:
        """The header line; empty if the server needs no key. Raises RuntimeError if the
        environment lacks the key."""
        if self.api_key_env is None:
            return b""
        if not (key := os.environ.get(self.api_key_env)):
            raise RuntimeError(
                f"{self.model}: the environment variable {self.api_key_env} with the key of "
                f"{self.host} is not set where the router runs"
            )
        return b"authorization: Bearer " + key.encode() + b"\r\n"

    def path(self, path: str) -> bytes:
        """Returns the server's path for an endpoint of ours. Raises ApiError 404 if it has none."""
        if not path.startswith("/v1/"):
            raise ApiError(
                404,
                f"There is no {path} for this model: it is served by another OpenAI server, which "
                "has the endpoints under /v1 alone.",
                code="not_found",
            )
        base: str = urlsplit(self.base_url).path.rstrip("/")
        return (base + path.removeprefix("/v1")).encode()
