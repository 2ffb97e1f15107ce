"""The last event of a stream is found, however the stream is cut into pieces."""

import pytest

from serving.router.responses.final_event import FinalEvent

DELTA = b'event: response.output_text.delta\ndata: {"delta":"event: response.completed"}\n\n'
DATA = b'{"response":{"id":"resp_1"}}'


def final(stream: bytes, piece_bytes: int, at_once: int = 1) -> FinalEvent:
    pieces = [stream[at : at + piece_bytes] for at in range(0, len(stream), piece_bytes)]
    event = FinalEvent()
    for at in range(0, len(pieces), at_once):
        event.feed(pieces[at : at + at_once])
    return event


@pytest.mark.parametrize("status", ["completed", "incomplete"])
@pytest.mark.parametrize("piece_bytes", [1, 7, 40, 100, 10_000])
@pytest.mark.parametrize("at_once", [1, 3])
def test_the_last_event_is_found(status: str, piece_bytes: int, at_once: int) -> None:
    last = b"event: response.%b\ndata: %b\n\n" % (status.encode(), DATA)
    assert final(DELTA * 10 + last, piece_bytes, at_once).data() == DATA
    assert final(DELTA * 10 + last[:-1], piece_bytes, at_once).data() is None


def test_a_stream_without_it_has_none_and_is_not_kept() -> None:
    event = final(DELTA * 1000, 100)
    assert event.data() is None
    assert len(event._end) < 100


def test_a_failed_response_is_none() -> None:
    assert final(b"event: response.failed\ndata: %b\n\n" % DATA, 100).data() is None
