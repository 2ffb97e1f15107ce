"""What engines have processed for a request, by their own reports."""

import re

from serving.dispatch import Spent
from serving.router.proxy.exchange import Exchange
from serving.router.telemetry.request_record import RequestRecord

_OUTPUT = re.compile(rb'"(?:completion|output)_tokens":\s*(\d{1,9})')
_INPUT = re.compile(rb'"(?:prompt|input)_tokens":\s*(\d{1,9})')
_USAGE_BYTES = 1024


def note_usage(exchange: Exchange, end: bytes) -> None:
    """Records the usage that the end of a complete answer reports, if it does. Our own engines have
    told the tokens of the prompt before."""
    record = exchange.record
    record.output_tokens = reported_output_tokens(end) or record.output_tokens
    if exchange.served.model.backend is not None:
        record.input_tokens = _last(_INPUT, end) or record.input_tokens


def reported_output_tokens(end: bytes) -> int | None:
    """Returns the reported output tokens, or None if the end does not report them."""
    return _last(_OUTPUT, end)


def spent(record: RequestRecord) -> Spent | None:
    """Returns the tokens that were read and generated; None if no engine has reported them."""
    if not record.input_tokens:
        return None
    cached_tokens = record.cached_tokens
    if cached_tokens is None:
        cached_tokens = record.expected_cached_tokens or 0
    return Spent(max(record.input_tokens - cached_tokens, 0), record.output_tokens)


def _last(count: re.Pattern[bytes], end: bytes) -> int | None:
    found = count.findall(end[-_USAGE_BYTES:])
    return int(found[-1]) if found else None
