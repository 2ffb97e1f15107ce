"""A small internet for the image fetcher: a server, and names that resolve to it."""

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from serving.engine.image_file import MediaError
from serving.engine.media import ImageFetcher
from serving.engine.public_address import IPAddress, is_public
from tests.support.http_server import Connection, Request, running

PUBLIC = "127.0.0.2"
"""An address that counts as public. All others keep their real status."""
PRIVATE = "127.0.0.1"

Handler = Callable[[Connection], Awaitable[None]]


def answer(body: bytes = b"", *headers: str, status: int = 200) -> bytes:
    """Returns an HTTP response with its Content-Length, unless `headers` contain one."""
    lines = [f"HTTP/1.1 {status} X", *headers]
    if not any(header.lower().startswith("content-length:") for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def picture(body: bytes, content_type: str = "image/png") -> bytes:
    return answer(body, f"Content-Type: {content_type}")


def redirect(location: str, status: int = 302, *headers: str) -> bytes:
    return answer(b"", f"Location: {location}", *headers, status=status)


@dataclass
class Visit:
    """A received request, and the address it came to."""

    address: str
    target: str
    headers: dict[str, str]


@dataclass
class Web:
    """Listens on PUBLIC and PRIVATE at one port. A route is the bytes of a response, or a handler
    that writes them; the connection is closed when it returns."""

    port: int
    routes: dict[str, bytes | Handler] = field(default_factory=dict)
    requests: list[Visit] = field(default_factory=list)
    connections: set[Connection] = field(default_factory=set)
    """All open connections."""

    def url(self, path: str, host: str = "images.test", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]

    def fetcher(self, names: dict[str, list[str]] | None = None, **kwargs: Any) -> ImageFetcher:
        """Returns a fetcher with the real policy, except for PUBLIC and the server's port."""
        kwargs.setdefault("resolver", Names({"images.test": [PUBLIC], **(names or {})}))
        return ImageFetcher(is_allowed=public_here, ports=frozenset({80, 443, self.port}), **kwargs)


async def load(fetcher: ImageFetcher, url: str) -> bytes:
    return await fetcher.load(url, bytes)


async def refused(fetcher: ImageFetcher, url: str) -> str:
    """Returns the reason that the client is given."""
    with pytest.raises(MediaError) as error:
        await load(fetcher, url)
    return str(error.value)


def public_here(address: IPAddress) -> bool:
    return is_public(address) or address == ip_address(PUBLIC)


@contextlib.asynccontextmanager
async def running_web(tls: ssl.SSLContext | None = None) -> AsyncIterator[Web]:
    sockets = sockets_of_one_port()
    web = Web(sockets[0].getsockname()[1])

    class Visited(Connection):
        def receive(self, request: Request) -> None:
            address, target = self.transport.get_extra_info("sockname")[0], request.target.decode()
            headers = {name.decode().lower(): value.decode() for name, value in request.headers}
            web.requests.append(Visit(address, target, headers))
            route = web.routes.get(target, answer(status=404))
            if isinstance(route, bytes):
                self.transport.write(route)
            else:
                self.task = asyncio.create_task(self._run(route))

        async def _run(self, route: Handler) -> None:
            await route(self)
            self.transport.close()

    web.connections = Visited.connections
    async with contextlib.AsyncExitStack() as stack:
        for sock in sockets:
            await stack.enter_async_context(running(Visited, tls, sock))
        yield web


def sockets_of_one_port() -> tuple[socket.socket, socket.socket]:
    while True:
        public = socket.create_server((PUBLIC, 0))
        try:
            return public, socket.create_server((PRIVATE, public.getsockname()[1]))
        except OSError:  # the port is taken on the other address
            public.close()


class Names(AbstractResolver):
    """A name server. Each lookup of a name gets the next of its answers (addresses, separated by
    spaces), and the last one from then on. Other names do not exist."""

    def __init__(self, answers: dict[str, list[str]]) -> None:
        self.answers = {name: list(answer) for name, answer in answers.items()}
        self.look_ups: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.look_ups.append(host)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = self.answers[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses.split()
        ]

    async def close(self) -> None:
        pass


def certificate(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Returns TLS contexts of a server that is `host`, and of a client that trusts its
    certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = cert.public_bytes(serialization.Encoding.PEM)
    file = folder / "server.pem"
    file.write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(file)
    client = ssl.create_default_context(cadata=pem.decode())
    return server, client
