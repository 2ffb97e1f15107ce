import json
from typing import Any

import pytest

from serving.batch import lines
from tests.support.scripted_service import completion, request_line

WHOLE: dict[str, Any] = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {},
}


def line(**fields: Any) -> bytes:
    return json.dumps(WHOLE | fields).encode()


@pytest.mark.parametrize("url", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_a_request_keeps_its_body_as_it_is_written(url: str) -> None:
    body = '{"n": 1.0, "text": "é\\u00e9",  "stream":false}'
    text = f'{{"custom_id": "ü", "method": "POST", "url": "{url}", "body": {body}, "more": 1}}\n'
    request = lines.parse_request(text.encode())
    assert (request.custom_id, request.url) == ("ü", url)
    assert bytes(request.body) == body.encode()


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (line() + b"x", "malformed"),
        (line() + line(), "malformed"),
        (b'{"custom_id": "a\xff"}', "not UTF-8 at byte 16"),
        (line(body={"deep": 1}).replace(b"1", b"[" * 10000 + b"]" * 10000), "nested too deeply"),
        (b"{}", "missing required field `custom_id`"),
        (line(custom_id=7), "Expected `str`, got `int` - at `$.custom_id`"),
        (line(custom_id=""), "`custom_id` is empty"),
        (line(method="GET"), "`method` must be POST, not 'GET'"),
        (line(url="/v1/embeddings"), "`url` must be one of /v1/chat/completions, /v1/completions"),
        (line(body="x"), "`body`: Expected `object`, got `str`"),
        (line(body={"stream": True}), "`body.stream` must be absent or false"),
        (line(body={"stream": "yes"}), "`body.stream` must be absent or false"),
        *[
            (
                line(url="/v1/responses", body={"background": value}),
                "`body.background` must be absent or false",
            )
            for value in (True, "yes", 1)
        ],
    ],
)
def test_a_bad_line_says_what_is_wrong(bad: bytes, what: str) -> None:
    with pytest.raises(ValueError) as error:
        lines.parse_request(bad)
    assert what in str(error.value)


@pytest.mark.parametrize("value", [False, None])
def test_a_response_that_is_not_in_the_background_is_one(value: Any) -> None:
    lines.parse_request(line(url="/v1/responses", body={"background": value, "store": True}))


def test_an_answer_is_one_line_of_openais_form() -> None:
    pretty = json.dumps({"text": "a\nb", "list": [1, 2]}, indent=2).replace("\n", "\r\n").encode()
    line = lines.answered("a", 200, "req-1", pretty).encode()
    assert line.count(b"\n") == 1 and line.endswith(b"\n") and b"\r" not in line
    assert line.startswith(lines.ANSWER_PREFIX)
    answer = json.loads(line)
    assert answer.pop("id").startswith("batch_req_")
    assert answer == {
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": "req-1", "body": json.loads(pretty)},
        "error": None,
    }
    assert lines.parse_answer(line).succeeded


def test_a_failure_has_a_code_and_a_message() -> None:
    line = lines.failed("a", "tries_exhausted", "why").encode()
    answer = json.loads(line)
    assert answer["response"] is None
    assert answer["error"] == {"code": "tries_exhausted", "message": "why"}
    assert not lines.parse_answer(line).succeeded
    assert not lines.answered("a", 400, "", b"{}").succeeded


def test_ids_of_answers_are_distinct() -> None:
    assert lines.answered("a", 200, "", b"{}").id != lines.answered("a", 200, "", b"{}").id


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (completion("a"), 5),
        (b'{"usage": {"input_tokens": 1, "output_tokens": 7}}', 7),
        (b'{"usage": null}', 0),
        (b'{"usage": {"completion_tokens": null}}', 0),
        (b'{"usage": {"completion_tokens": 5.5}}', 0),
        (b'{"usage": [5]}', 0),
        (b"{}", 0),
    ],
)
def test_output_tokens_of_each_endpoint(body: bytes, tokens: int) -> None:
    assert lines.output_tokens(body) == tokens


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"a": ', b'{"a": "\xff"}'])
def test_a_body_that_is_no_json_object_is_told(body: bytes) -> None:
    with pytest.raises(ValueError):
        lines.output_tokens(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "too\\n  long"}}', "too long"),
        (b'{"error": "not found"}', "not found"),
        (b'{"message": "older"}', "older"),
        (b'{"error": {"message": "a \\ud800"}}', "a ?"),
        (b"<html>\n413</html>", "<html> 413</html>"),
        (b'{"detail": 1}', '{"detail": 1}'),
        (b"[1]", "[1]"),
        (b'"text"', '"text"'),
        (b"\xff", "�"),
        (b"", ""),
    ],
)
def test_the_message_of_an_error(body: bytes, message: str) -> None:
    assert lines.error_message(body) == message


def test_an_error_that_is_no_json_gets_openais_shape() -> None:
    assert json.loads(lines.error_body(b"<html>"))["error"]["message"] == "<html>"
    assert lines.error_body(b'{"error": "as it came"}') == b'{"error": "as it came"}'


def test_the_tests_own_lines_are_valid() -> None:
    assert lines.parse_request(request_line("a")).custom_id == "a"
