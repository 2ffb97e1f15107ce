"""Reads the length of an answer from its end."""

import re

_USAGE = re.compile(rb'"(?:completion|output)_tokens":\s*(\d{1,9})')
_USAGE_BYTES = 1024


def reported_output_tokens(end: bytes) -> int | None:
    """Returns the reported output tokens, or None if the end does not report them."""
    usages = _USAGE.findall(end[-_USAGE_BYTES:])
    return int(usages[-1]) if usages else None
