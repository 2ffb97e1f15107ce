import openai
import pytest

from serving.router.proxy.request_headers import InvalidHeaderError, priority_and_timeout_s


def test_without_headers_the_default_and_no_bound() -> None:
    assert priority_and_timeout_s([(b"host", b"x")], default_priority=4) == (4, None)


def test_the_priority_is_a_digit_and_no_higher_than_allowed() -> None:
    assert priority_and_timeout_s([(b"x-priority", b"7")])[0] == 7
    assert priority_and_timeout_s([(b"x-priority", b"9")], highest_priority=6)[0] == 6


@pytest.mark.parametrize("value", [b"", b"10", b"-1", b"high", "²".encode()])
def test_another_priority_is_an_error(value: bytes) -> None:
    with pytest.raises(InvalidHeaderError, match="from 0 to 9") as error:
        priority_and_timeout_s([(b"x-priority", value)])
    assert error.value.header == "x-priority"


def test_the_shortest_timeout_counts() -> None:
    headers = [(b"x-stainless-read-timeout", b"600"), (b"x-request-timeout", b"2.5")]
    assert priority_and_timeout_s(headers)[1] == 2.5
    headers = [(b"x-request-timeout", b"60"), (b"x-stainless-timeout", b"30.0")]
    assert priority_and_timeout_s(headers)[1] == 30


@pytest.mark.parametrize("value", [b"0", b"-3", b"soon", b"nan", b"inf", b""])
def test_a_timeout_set_on_purpose_must_be_one(value: bytes) -> None:
    with pytest.raises(InvalidHeaderError, match="seconds"):
        priority_and_timeout_s([(b"x-request-timeout", value)])


def test_what_a_library_sends_instead_of_a_timeout_is_none() -> None:
    assert priority_and_timeout_s([(b"x-stainless-read-timeout", b"NOT_GIVEN")])[1] is None


def test_the_timeout_of_openais_client_is_read() -> None:
    client = openai.OpenAI(api_key="x", timeout=12)
    options = openai._models.FinalRequestOptions(method="post", url="/chat/completions")
    request = client._build_request(options)
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    assert priority_and_timeout_s(headers)[1] == 12
