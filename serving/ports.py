"""The ports that engines and routers listen on beside the clients' one: routers ask engines there,
and Prometheus scrapes both."""

import errno
import random
import socket

REPLICAS = range(7000, 8000)
"""What a firewall is to let through, as k8s/13-network.yaml does."""

_TRIES = 100
_BACKLOG = 2048


def listen(host: str) -> socket.socket:
    """On a port by chance, lest a replica's successor be taken for the dead one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in random.sample(REPLICAS, _TRIES):
        try:
            return socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"{_TRIES} ports of {REPLICAS[0]} to {REPLICAS[-1]} are taken")
