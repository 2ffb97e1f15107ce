"""Ports for the servers that a test starts."""

import socket


def free_port() -> int:
    """Returns a TCP port of the loopback interface that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
