"""The ports of engines and routers other than the clients' port: routers call engines there, and
Prometheus scrapes both."""

import errno
import random
import socket

REPLICAS = range(7000, 8000)
"""The port range to open in a firewall, as k8s/13-network.yaml does."""

_TRIES = 100
_BACKLOG = 2048


def listen(host: str) -> socket.socket:
    """Returns a socket that listens on a random port of the range, so that a replica's successor is
    not mistaken for the dead one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in random.sample(REPLICAS, _TRIES):
        try:
            return socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"{_TRIES} ports of {REPLICAS[0]} to {REPLICAS[-1]} are taken")
