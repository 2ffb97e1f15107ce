"""A limit on failed authentications from one address."""

import math
from collections import OrderedDict
from ipaddress import IPv6Address

BURST = 20
"""Failures in a row that are answered as what they are."""
PERIOD_S = 3.0
"""The time after which one more is."""

_MAX_ADDRESSES = 10_000
_IPV6_PREFIX_BITS = 64
"""The network that a client has to itself (RFC 6177)."""


class FailureThrottle:
    """Counts the failures of each address by the generic cell rate algorithm (ITU-T I.371), which
    needs one number for each. Only the addresses that failed last are remembered."""

    def __init__(self, max_addresses: int = _MAX_ADDRESSES) -> None:
        self._max_addresses = max_addresses
        self._spent_until_s: OrderedDict[str, float] = OrderedDict()

    def failed(self, address: str, now_s: float) -> int:
        """Counts a failure. Returns 0, or the seconds until another one is within the limit if this
        one is not."""
        network = _network(address)
        spent_until_s = max(self._spent_until_s.get(network, 0.0), now_s)
        over_s = spent_until_s - now_s - (BURST - 1) * PERIOD_S
        if over_s > 0:
            return math.ceil(over_s)
        self._spent_until_s[network] = spent_until_s + PERIOD_S
        self._spent_until_s.move_to_end(network)
        if len(self._spent_until_s) > self._max_addresses:
            self._spent_until_s.popitem(last=False)
        return 0


def _network(address: str) -> str:
    """Returns what counts as one address: all of those that one IPv6 client has."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> _IPV6_PREFIX_BITS << _IPV6_PREFIX_BITS))
