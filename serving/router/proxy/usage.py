"""How many tokens an answer has, as its end tells."""

import re

_USAGE = re.compile(rb'"(?:completion|output)_tokens":\s*(\d{1,9})')
_USAGE_BYTES = 1024


def reported_output_tokens(end: bytes) -> int | None:
    """None if it does not tell."""
    usages = _USAGE.findall(end[-_USAGE_BYTES:])
    return int(usages[-1]) if usages else None
