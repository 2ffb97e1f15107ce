"""Ports for the servers that a test starts."""

import random
import socket

_PORTS = range(20_000, 32_000)
"""Neither those of Ray's workers, nor those that Linux gives to clients' connections, one of which
may have the port when the server comes to listen on it."""


def free_port() -> int:
    """Returns a TCP port of the loopback interface that nothing listens on."""
    while True:
        port = random.choice(_PORTS)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
