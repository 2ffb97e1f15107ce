"""The addresses that no request can make this service connect to."""

from pathlib import Path

import pytest

from serving.engine.media import ImageFetcher
from tests.engine.pictures import PNG, data_url
from tests.engine.web import (
    PRIVATE,
    PUBLIC,
    Names,
    Web,
    certificate,
    load,
    picture,
    redirect,
    refused,
    running_web,
)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://images.test/a.png",
        "gopher://images.test/",
        "unix:///run/docker.sock",
        "/etc/passwd",
        "images.test/a.png",
        "//images.test/a.png",
        "http:///a.png",
        "javascript:alert(1)",
        "",
    ],
)
async def test_other_schemes(web: Web, url: str) -> None:
    assert "is not an http, https or data URL" in await refused(web.fetcher(), url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
    ],
)
async def test_addresses_that_are_not_public(web: Web, host: str) -> None:
    assert "no public address" in await refused(web.fetcher(), web.url("/a.png", host))
    assert not web.requests


@pytest.mark.parametrize(
    "host", ["localhost", "localhost.", "LOCALHOST", "0x7f000001", "0x7f.1", "0177.0.0.0x1"]
)
async def test_what_the_operating_system_takes_for_loopback(web: Web, host: str) -> None:
    fetcher = ImageFetcher(ports=frozenset({web.port}))
    assert "no public address" in await refused(fetcher, web.url("/a.png", host))
    assert not web.requests


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "017700000001", "1.1.1.1.1", "\uff11\uff12\uff17.0.0.1"]
)
async def test_unusual_spellings_of_an_address(web: Web, host: str) -> None:
    await refused(ImageFetcher(ports=frozenset({web.port})), web.url("/a.png", host))
    assert not web.requests


@pytest.mark.parametrize(
    "address", [PRIVATE, "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:127.0.0.1"]
)
async def test_a_name_of_a_private_address(web: Web, address: str) -> None:
    fetcher = web.fetcher({"inside.test": [address]})
    reason = await refused(fetcher, web.url("/a.png", "inside.test"))
    assert (
        reason == "The image a.png from inside.test cannot be used: its host has no public address."
    )
    assert not web.requests


async def test_names_that_exist_inside_cannot_be_told_from_names_that_do_not(web: Web) -> None:
    fetcher = web.fetcher({"inside.test": ["10.0.0.1"]})
    inside = await refused(fetcher, web.url("/a.png", "inside.test"))
    nowhere = await refused(fetcher, web.url("/a.png", "nowhere.test"))
    assert inside.replace("inside.test", "nowhere.test") == nowhere


@pytest.mark.parametrize("addresses", [f"{PUBLIC} {PRIVATE}", f"{PRIVATE} {PUBLIC}"])
async def test_of_a_names_addresses_only_public_ones_are_connected_to(
    web: Web, addresses: str
) -> None:
    assert (
        await load(web.fetcher({"both.test": [addresses]}), web.url("/a.png", "both.test")) == PNG
    )
    assert [request.address for request in web.requests] == [PUBLIC]


async def test_a_name_is_looked_up_once_for_a_connection(web: Web) -> None:
    names = Names({"rebinds.test": [PUBLIC, PRIVATE]})
    assert await load(web.fetcher(resolver=names), web.url("/a.png", "rebinds.test")) == PNG
    assert names.look_ups == ["rebinds.test"]
    assert [request.address for request in web.requests] == [PUBLIC]


async def test_a_name_that_turns_private_between_redirects(web: Web) -> None:
    web.routes["/1"] = redirect("/a.png", 302, "Connection: close")
    fetcher = web.fetcher({"rebinds.test": [PUBLIC, PRIVATE]})
    reason = await refused(fetcher, web.url("/1", "rebinds.test"))
    assert "no public address" in reason
    assert web.targets == ["/1"]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.1/", "no public address"),
        ("http://169.254.169.254/latest/meta-data/", "no public address"),
        ("http://[::1]/", "no public address"),
        ("http://inside.test/", "no public address"),
        ("//10.0.0.1/", "no public address"),
        ("file:///etc/passwd", "is not an http or https URL"),
        ("data:image/png;base64,AAAA", "is not an http or https URL"),
        ("ftp://images.test/", "is not an http or https URL"),
        ("http://user:secret@images.test/", "contains credentials"),
        ("http://images.test:22/", "port"),
        ("http://[::1", "malformed"),
    ],
)
async def test_where_a_redirect_cannot_lead(web: Web, location: str, reason: str) -> None:
    web.routes["/1"] = redirect(location)
    web.routes["/"] = picture(PNG)
    assert reason in await refused(web.fetcher({"inside.test": [PRIVATE]}), web.url("/1"))
    assert web.targets == ["/1"]


async def test_a_redirect_to_a_private_server_on_the_same_port(web: Web) -> None:
    web.routes["/1"] = redirect(web.url("/a.png", PRIVATE))
    assert "no public address" in await refused(web.fetcher(), web.url("/1"))
    assert web.targets == ["/1"]


@pytest.mark.parametrize("redirects", [5, 6])
async def test_five_redirects_and_no_more(web: Web, redirects: int) -> None:
    for number in range(redirects):
        web.routes[f"/{number}"] = redirect(f"/{number + 1}")
    web.routes[f"/{redirects}"] = picture(PNG)
    if redirects == 5:
        assert await load(web.fetcher(), web.url("/0")) == PNG
    else:
        assert "more than 5 redirects" in await refused(web.fetcher(), web.url("/0"))
        assert web.targets == ["/0", "/1", "/2", "/3", "/4", "/5"]


@pytest.mark.parametrize("user", ["user:secret", "user", ":secret"])
async def test_credentials_in_a_url(web: Web, user: str) -> None:
    reason = await refused(web.fetcher(), web.url("/a.png", f"{user}@images.test"))
    assert "contains credentials" in reason
    assert "secret" not in reason
    assert not web.requests


@pytest.mark.parametrize("port", [22, 6379, 8080, 8443])
async def test_ports(port: int) -> None:
    fetcher = ImageFetcher(resolver=Names({"images.test": [PUBLIC]}))
    assert "port" in await refused(fetcher, f"http://images.test:{port}/a.png")


async def test_proxies_of_the_environment_are_not_used(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{PRIVATE}:{web.port}")
    assert await load(web.fetcher(), web.url("/a.png")) == PNG
    assert [(request.address, request.target) for request in web.requests] == [(PUBLIC, "/a.png")]


async def test_cookies_are_not_kept(web: Web) -> None:
    web.routes["/1"] = redirect("/a.png", 302, "Set-Cookie: a=b; Path=/")
    assert await load(web.fetcher(), web.url("/1")) == PNG
    assert "cookie" not in web.requests[1].headers


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("cdn.test", True),
        ("CDN.test", True),
        ("cdn.test.", True),
        ("a.images.test", True),
        ("a.b.images.test", True),
        ("images.test", False),
        ("evilimages.test", False),
        ("a.cdn.test", False),
        ("cdn.test.evil.test", False),
        (PUBLIC, False),
    ],
)
async def test_allowed_domains(web: Web, host: str, allowed: bool) -> None:
    names = {host.lower(): [PUBLIC]}
    fetcher = web.fetcher(names, allowed_domains=["cdn.test", "*.Images.test"])
    if allowed:
        assert await load(fetcher, web.url("/a.png", host)) == PNG
    else:
        assert "accepts no images from" in await refused(fetcher, web.url("/a.png", host))
        assert not web.requests


async def test_allowed_domains_hold_for_redirects_and_not_for_data_urls(web: Web) -> None:
    web.routes["/1"] = redirect(web.url("/a.png", "other.test"))
    fetcher = web.fetcher({"other.test": [PUBLIC]}, allowed_domains=["images.test"])
    assert "accepts no images from" in await refused(fetcher, web.url("/1"))
    assert web.targets == ["/1"]
    assert await load(fetcher, data_url(PNG)) == PNG


async def test_an_allowed_domain_may_not_be_private_either(web: Web) -> None:
    fetcher = web.fetcher({"inside.test": [PRIVATE]}, allowed_domains=["inside.test"])
    assert "no public address" in await refused(fetcher, web.url("/a.png", "inside.test"))


@pytest.mark.parametrize("host", ["images.test", "other.test"])
async def test_tls_verifies_the_hosts_name(tmp_path: Path, host: str) -> None:
    server, client = certificate(tmp_path, "images.test")
    async with running_web(server) as web:
        web.routes["/a.png"] = picture(PNG)
        fetcher = web.fetcher({"other.test": [PUBLIC]}, tls=client)
        if host == "images.test":
            assert await load(fetcher, web.url("/a.png", host, "https")) == PNG
        else:
            assert "TLS" in await refused(fetcher, web.url("/a.png", host, "https"))
            assert not web.requests


async def test_tls_trusts_no_unknown_certificate(tmp_path: Path) -> None:
    server, _ = certificate(tmp_path, "images.test")
    async with running_web(server) as web:
        assert "TLS" in await refused(web.fetcher(), web.url("/a.png", scheme="https"))
