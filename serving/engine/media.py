"""Loads the images named by requests, and lets no request reach a non-public address."""

import asyncio
import binascii
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from ssl import SSLContext
from typing import TypeVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from serving.engine.held_pixels import HeldPixels
from serving.engine.image_file import MediaError, check_image
from serving.engine.public_address import IPAddress, is_public

T = TypeVar("T")

_HEADERS = {"User-Agent": "mistral-serve", "Accept": "image/*", "Accept-Encoding": "identity"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK_BYTES = 65536
# Separate threads: a slow name server or a flood of large images must not block the rest of the
# process. The second number also bounds how many images are decoded at a time.
_RESOLVING = ThreadPoolExecutor(32, "image-dns")
_DECODING = ThreadPoolExecutor(4, "image-decode")

HELD_PIXELS = HeldPixels(150_000_000)
"""The pixels that this process may hold: twelve phone photos. A pixel takes 4 bytes."""


@dataclass(frozen=True)
class Limits:
    """Limits on the cost of one image."""

    max_bytes: int = 20 * 2**20
    """Size of the file as transferred; decoded from base64 for a data URL."""
    max_pixels: int = 50_000_000
    """Above the 48 million of today's phone cameras; 200 MB when decoded."""
    max_redirects: int = 5
    timeout_s: float = 10
    """Time from the name lookup to the last byte, redirects included."""


class ImageFetcher:
    """Loads http, https and data URLs.

    - The address that a socket is about to connect to is what is checked, again for each redirect:
      no earlier or later DNS answer can change it. TLS still verifies the host's name.
    - `allowed_domains` are host names, exact or as "*.example.com" (its subdomains, not itself);
      empty allows every public host. They do not make a private address reachable.
    - Proxies and credentials in the environment are ignored: behind a proxy, the checked address
      would not be the one connected to.

    `is_allowed`, `ports`, `resolver`, `tls` and `held_pixels` are parameters for tests.
    """

    def __init__(
        self,
        allowed_domains: Iterable[str] = (),
        *,
        limits: Limits = Limits(),
        is_allowed: Callable[[IPAddress], bool] = is_public,
        ports: frozenset[int] = frozenset({80, 443}),
        resolver: AbstractResolver | None = None,
        tls: SSLContext | None = None,
        held_pixels: HeldPixels = HELD_PIXELS,
    ) -> None:
        self._allowed_domains = tuple(domain.lower() for domain in allowed_domains)
        self._limits = limits
        self._is_allowed = is_allowed
        self._ports = ports
        self._resolver = resolver or Resolver()
        self._tls = tls
        self._held_pixels = held_pixels

    async def load(self, url: str, decode: Callable[[bytes], T]) -> T:
        """Returns `decode` of the image's bytes, run in a thread. By its header, the image is in
        one of FORMATS and within the limits. Raises MediaError."""
        in_thread = partial(asyncio.get_running_loop().run_in_executor, _DECODING)
        try:
            if url[:5].lower() == "data:":
                data = await in_thread(self._data, url)
            else:
                data = await self._fetch(url)
            pixels = await in_thread(check_image, data, self._limits.max_pixels)
            await self._held_pixels.take(pixels)
        except MediaError as error:
            raise MediaError(f"{_shown(url)} cannot be used: {error}.", url) from None
        try:
            return await in_thread(decode, data)
        except Exception:  # hostile bytes make decoders raise anything
            raise MediaError(f"{_shown(url)} cannot be used: it is damaged.", url) from None

    def _data(self, url: str) -> bytes:
        head, comma, text = url[5:].partition(",")
        media_type, *parameters = (part.strip().lower() for part in head.split(";"))
        if not comma or "base64" not in parameters[-1:]:
            raise MediaError("a data URL must have the form data:image/png;base64,…")
        _check_type(media_type)
        if len(text) * 3 // 4 > self._limits.max_bytes + 2:
            raise self._too_large()
        try:
            return binascii.a2b_base64("".join(text.split()), strict_mode=True)
        except ValueError:
            raise MediaError("its base64 is malformed") from None

    async def _fetch(self, url: str) -> bytes:
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await self._follow(self._checked(url))
        except MediaError:
            raise
        except TimeoutError:
            raise MediaError(f"it took longer than {self._limits.timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise MediaError(_explain(error)) from None

    async def _follow(self, url: URL) -> bytes:
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            socket_factory=self._socket,
            use_dns_cache=False,
            ssl=self._tls or True,
        )
        async with aiohttp.ClientSession(
            connector=connector,
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
        ) as session:
            for _ in range(self._limits.max_redirects + 1):
                async with session.get(url, allow_redirects=False) as response:
                    location = response.headers.get("Location")
                    if response.status not in _REDIRECTS or location is None:
                        return await self._read(response)
                url = self._checked(location, url)
        raise MediaError(f"it is behind more than {self._limits.max_redirects} redirects")

    def _checked(self, text: str, base: URL | None = None) -> URL:
        try:
            url = URL(text) if base is None else base.join(URL(text))
            host, port = url.raw_host, url.port
        except ValueError:
            raise MediaError("its URL is malformed") from None
        where, schemes = "its URL", "http, https or data"
        if base is not None:
            where, schemes = "the URL that it redirects to", "http or https"
        if url.scheme not in ("http", "https") or not host:
            raise MediaError(f"{where} is not an {schemes} URL")
        if url.raw_user is not None or url.raw_password is not None:
            raise MediaError(f"{where} contains credentials")
        if port not in self._ports:
            raise MediaError(f"{where} names a port other than 80 and 443")
        if self._allowed_domains and not self._in_allowed_domains(host.rstrip(".")):
            raise MediaError(f"this service accepts no images from the host of {where}")
        return url

    def _in_allowed_domains(self, host: str) -> bool:
        return any(
            host.endswith(domain[1:]) if domain.startswith("*.") else host == domain
            for domain in self._allowed_domains
        )

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self._is_allowed(ip_address(address[0])):
            raise _NotAllowed
        return socket.socket(family, kind, protocol)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        if response.status != 200:
            raise MediaError(f"its server answered with status {response.status}")
        _check_type(response.content_type)
        if (response.content_length or 0) > self._limits.max_bytes:
            raise self._too_large()
        data = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            data += chunk
            if len(data) > self._limits.max_bytes:
                raise self._too_large()
        return bytes(data)

    def _too_large(self) -> MediaError:
        return MediaError(f"it is larger than {self._limits.max_bytes / 2**20:g} MiB")


class Resolver(AbstractResolver):
    """The operating system's name lookup, in threads of its own."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = partial(
            socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG
        )
        infos = await asyncio.get_running_loop().run_in_executor(_RESOLVING, look_up)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=found,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found, _, protocol, _, address in infos
        ]

    async def close(self) -> None:
        pass


def _check_type(media_type: str) -> None:
    # Object stores default to "octet-stream"; the bytes themselves are checked in any case.
    if media_type and not media_type.startswith("image/") and "octet-stream" not in media_type:
        raise MediaError(f"its content type is {media_type[:80]}, not an image's")


class _NotAllowed(OSError):
    pass


def _explain(error: Exception) -> str:
    match error:
        case (
            aiohttp.ClientConnectorDNSError() | aiohttp.ClientConnectorError(os_error=_NotAllowed())
        ):
            # One message for both cases: clients must not learn which names exist in this network.
            return "its host has no public address"
        case aiohttp.ClientSSLError():
            return "its server's TLS certificate or protocol is not acceptable"
        case aiohttp.ClientConnectionError():
            return "its server cannot be reached"
        case aiohttp.ClientPayloadError():
            return "its server broke off the transfer"
        case aiohttp.InvalidURL() | UnicodeError():
            return "its URL is malformed"
        case _:
            return "its server gave no valid answer"


def _shown(url: str) -> str:
    """Returns how messages name an image: without its data, query or credentials, which are the
    client's secrets, and without its path, which vLLM would take for a local path and cut out."""
    if url[:5].lower() == "data:":
        return "The image in a data URL"
    try:
        parsed = URL(url)
        host, name = parsed.raw_host, parsed.raw_name
    except ValueError:
        return "An image"
    if not host:
        return "An image"
    return f"The image {name[:80]} from {host[:80]}" if name else f"The image from {host[:80]}"
