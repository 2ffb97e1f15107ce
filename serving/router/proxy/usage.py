"""What an engine has processed for a request, by its own report."""

import re

from serving.dispatch import Spent
from serving.router.telemetry.request_record import RequestRecord

_USAGE = re.compile(rb'"(?:completion|output)_tokens":\s*(\d{1,9})')
_USAGE_BYTES = 1024


def reported_output_tokens(end: bytes) -> int | None:
    """Returns the reported output tokens, or None if the end does not report them."""
    usages = _USAGE.findall(end[-_USAGE_BYTES:])
    return int(usages[-1]) if usages else None


def spent(record: RequestRecord) -> Spent | None:
    """Returns the tokens that were read and generated; None if no engine has reported them."""
    if not record.input_tokens:
        return None
    cached_tokens = record.cached_tokens
    if cached_tokens is None:
        cached_tokens = record.expected_cached_tokens or 0
    return Spent(max(record.input_tokens - cached_tokens, 0), record.output_tokens)
