"""Keeps a process from reaching anything but this machine, and tells what it tried to."""

import ipaddress
import sys
from typing import Any

reached: list[str] = []
"""Hosts beyond this machine that the process tried to reach, each in vain."""


def _refuse_others(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host in (None, "localhost"):
        return
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass
    reached.append(host)
    raise PermissionError(f"{host} is not this machine")


def keep_to_it() -> None:
    """Lets no connection of this process leave the machine, from now on to its end."""
    sys.addaudithook(_refuse_others)
