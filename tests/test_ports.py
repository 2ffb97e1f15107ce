import errno
import socket

import pytest

from serving import ports


def test_each_replica_has_a_port_of_its_own() -> None:
    sockets = [ports.listen("127.0.0.1") for _ in range(20)]
    numbers = {sock.getsockname()[1] for sock in sockets}
    for sock in sockets:
        sock.close()
    assert len(numbers) == 20
    assert numbers <= set(ports.REPLICAS)


def test_taken_ports_are_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        taken, free = one.getsockname()[1], two.getsockname()[1]
        two.close()
        monkeypatch.setattr(ports, "REPLICAS", [taken, free])
        monkeypatch.setattr(ports, "_TRIES", 2)
        with ports.listen("127.0.0.1") as sock:
            assert sock.getsockname()[1] == free
            with pytest.raises(OSError, match="are taken") as failed:
                ports.listen("127.0.0.1")
    assert failed.value.errno == errno.EADDRINUSE


def test_an_address_of_another_machine_is_an_error_at_once() -> None:
    with pytest.raises(OSError) as failed:
        ports.listen("192.0.2.1")
    assert failed.value.errno == errno.EADDRNOTAVAIL
