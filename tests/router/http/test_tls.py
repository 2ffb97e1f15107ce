"""Routers speak TLS with a certificate from files, and take a renewed one."""

import asyncio
import ssl
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.config import TlsConfig
from serving.router.http.server import HttpServer, listening_socket
from serving.router.http.tls import Certificate
from tests.router.http.test_server import App
from tests.support.waiting import eventually


@pytest.fixture
def config(tmp_path: Path) -> TlsConfig:
    files = {name: str(tmp_path / name) for name in ("certificate_file", "key_file")}
    return TlsConfig(**files)


def write(config: TlsConfig, name: str) -> None:
    """Writes a new certificate of that name."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    where = f"-out {config.certificate_file} -keyout {config.key_file} -subj /CN={name}"
    arguments = [*command.split(), *where.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(arguments, check=True, capture_output=True)


async def name_of(port: int, authority: str) -> str:
    """Returns the name in the certificate that a server shows."""
    trusting = ssl.create_default_context(cafile=authority)
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    certificate: Any = writer.get_extra_info("peercert")
    writer.close()
    return str(dict(pair for (pair,) in certificate["subject"])["commonName"])


async def test_a_socket_with_a_certificate_speaks_tls_and_the_others_do_not(
    config: TlsConfig,
) -> None:
    write(config, "first")
    secure, plain = listening_socket("127.0.0.1", 0), listening_socket("127.0.0.1", 0)
    ports = [sock.getsockname()[1] for sock in (secure, plain)]
    certificate = Certificate(config)
    app = App()
    server = HttpServer(app, secure, plain, certificates={secure: certificate})
    running = asyncio.create_task(server.run_until_stopped())
    await eventually(lambda: server.started)
    trusting = ssl.create_default_context(cafile=config.certificate_file)
    async with httpx.AsyncClient(verify=trusting, timeout=60) as http:
        for url in (f"https://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"):
            assert (await http.get(url)).text == "hello"
        with pytest.raises(httpx.TransportError):
            await http.get(f"http://127.0.0.1:{ports[0]}")
        write(config, "second")
        certificate.renew()
        assert await name_of(ports[0], config.certificate_file) == "second"
        assert (await http.get(f"https://127.0.0.1:{ports[0]}")).text == "hello", "kept alive"
        asked = app.asked
        stopping = asyncio.create_task(server.stop(5, 0.2))
        await eventually(lambda: not server.servers[0].is_serving())
        assert (await http.get(f"https://127.0.0.1:{ports[0]}")).headers["connection"] == "close"
        assert app.asked == asked + 1
    await stopping
    await running


@pytest.mark.parametrize("broken", ["missing", "of another key", "no certificate"])
def test_files_that_cannot_be_used_end_the_start_and_no_renewal(
    config: TlsConfig, tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(config, "first")
    certificate = Certificate(config)
    key = Path(config.key_file)
    if broken == "missing":
        key.unlink()
    elif broken == "of another key":
        other = config.model_copy(update={"certificate_file": str(tmp_path / "other.pem")})
        write(other, "other")
    else:
        Path(config.certificate_file).write_text("nothing")
    certificate.renew()
    assert "the TLS certificate is not renewed" in caplog.text
    assert str(key) in caplog.text
    with pytest.raises(RuntimeError, match=r"router\.tls: certificate_file .* cannot be used"):
        Certificate(config)
