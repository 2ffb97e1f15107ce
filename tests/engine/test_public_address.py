"""The addresses that a request may make this service connect to."""

from ipaddress import ip_address

import pytest

from serving.engine.public_address import is_public


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "168.63.129.15",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "223.255.255.255",
        "2001:200::1",
        "2606:4700:4700::1111",
        "2a00:1450::1",
        "64:ff9b::808:808",
    ],
)
def test_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("0.0.0.0", id="this host"),
        pytest.param("10.0.0.1", id="private 10/8"),
        pytest.param("172.16.0.1", id="private 172.16/12"),
        pytest.param("172.31.255.255", id="private 172.16/12, last"),
        pytest.param("192.168.1.1", id="private 192.168/16"),
        pytest.param("100.64.0.1", id="carrier-grade NAT"),
        pytest.param("100.100.100.200", id="Alibaba metadata"),
        pytest.param("127.0.0.1", id="loopback"),
        pytest.param("127.255.255.254", id="loopback, last"),
        pytest.param("168.63.129.16", id="Azure host agent"),
        pytest.param("169.254.169.254", id="cloud metadata"),
        pytest.param("192.0.0.192", id="Oracle metadata"),
        pytest.param("192.0.2.1", id="documentation"),
        pytest.param("198.18.0.1", id="benchmarking"),
        pytest.param("198.51.100.1", id="documentation 2"),
        pytest.param("203.0.113.1", id="documentation 3"),
        pytest.param("192.88.99.1", id="6to4 relay"),
        pytest.param("224.0.0.1", id="multicast"),
        pytest.param("239.255.255.250", id="multicast, SSDP"),
        pytest.param("240.0.0.1", id="reserved"),
        pytest.param("255.255.255.255", id="broadcast"),
        pytest.param("::", id="v6 unspecified"),
        pytest.param("::1", id="v6 loopback"),
        pytest.param("::ffff:127.0.0.1", id="v4-mapped private"),
        pytest.param("::ffff:8.8.8.8", id="v4-mapped public"),
        pytest.param("::7f00:1", id="v4-compatible"),
        pytest.param("64:ff9b::7f00:1", id="NAT64 of loopback"),
        pytest.param("64:ff9b::a00:1", id="NAT64 of 10.0.0.1"),
        pytest.param("64:ff9b::a9fe:a9fe", id="NAT64 of metadata"),
        pytest.param("64:ff9b:1::808:808", id="local-use NAT64"),
        pytest.param("2002:7f00:1::", id="6to4 of loopback"),
        pytest.param("2002:a00:1::", id="6to4 of 10.0.0.1"),
        pytest.param("2001:0:4136:e378:8000:63bf:3fff:fdd2", id="Teredo"),
        pytest.param("2001:20::1", id="ORCHID"),
        pytest.param("2001:db8::1", id="v6 documentation"),
        pytest.param("3fff::1", id="v6 documentation 2"),
        pytest.param("100::1", id="v6 discard"),
        pytest.param("fc00::1", id="v6 unique local"),
        pytest.param("fd00:ec2::254", id="AWS metadata"),
        pytest.param("fe80::1", id="v6 link-local"),
        pytest.param("fe80::1%eth0", id="v6 link-local with a zone"),
        pytest.param("fec0::1", id="v6 site-local"),
        pytest.param("ff02::1", id="v6 multicast"),
    ],
)
def test_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
