"""OpenAI's batch file format: one request per line in the input, one answer per line in the
output."""

import json
import uuid
from typing import Any

import msgspec

_RESPONSES = "/v1/responses"
URLS = ("/v1/chat/completions", "/v1/completions", _RESPONSES, "/v1/messages")

ANSWER_PREFIX = b'{"id":"batch_req_'
"""The beginning of each line that `Answer.encode` returns."""


class Request(msgspec.Struct, frozen=True):
    """A line of the input. `body` is kept as it was written."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class Response(msgspec.Struct, frozen=True):
    """The service's response, with its `body` as received."""

    status_code: int
    request_id: str
    body: msgspec.Raw


class Error(msgspec.Struct, frozen=True):
    """The reason why there is no answer."""

    code: str
    message: str


class Answer(msgspec.Struct, frozen=True):
    """A line of the output, with either a response or an error."""

    id: str
    custom_id: str
    response: Response | None
    error: Error | None

    @property
    def succeeded(self) -> bool:
        return self.response is not None and 200 <= self.response.status_code < 300

    def encode(self) -> bytes:
        """The line as bytes, including its newline."""
        return msgspec.json.encode(self) + b"\n"


class _Body(msgspec.Struct):
    stream: Any = None
    background: Any = None


class _Usage(msgspec.Struct):
    completion_tokens: int = 0
    output_tokens: int = 0


class _Completion(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"null")


_decode_request = msgspec.json.Decoder(Request).decode
_decode_body = msgspec.json.Decoder(_Body).decode
_decode_answer = msgspec.json.Decoder(Answer).decode
_decode_completion = msgspec.json.Decoder(_Completion).decode
_decode_usage = msgspec.json.Decoder(_Usage).decode


def parse_request(line: bytes) -> Request:
    """Parses a line of the input. Raises ValueError with the mistake."""
    request: Request = _checked(line, _decode_request)
    if not request.custom_id:
        raise ValueError("`custom_id` is empty")
    if request.method != "POST":
        raise ValueError(f"`method` must be POST, not '{request.method[:20]}'")
    if request.url not in URLS:
        raise ValueError(f"`url` must be one of {', '.join(URLS)}, not '{request.url[:100]}'")
    try:
        body = _decode_body(request.body)
    except msgspec.ValidationError as error:
        raise ValueError(f"`body`: {error}") from None
    if body.stream not in (None, False):
        raise ValueError("`body.stream` must be absent or false: answers go to a file whole")
    if request.url == _RESPONSES and body.background not in (None, False):
        raise ValueError(
            "`body.background` must be absent or false: the answer to a response in the background "
            "is only that it has begun"
        )
    return request


def parse_answer(line: bytes) -> Answer:
    """Parses a line of the output. Raises ValueError with the mistake."""
    answer: Answer = _checked(line, _decode_answer)
    return answer


def _checked(line: bytes, decode: Any) -> Any:
    try:
        line.decode()  # msgspec does not validate the bytes of fields that it skips.
        return decode(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def answered(custom_id: str, status_code: int, request_id: str, body: bytes) -> Answer:
    """The output line for a service's response. `body` must be JSON; see `output_tokens`."""
    # JSON has line breaks only between its tokens.
    one_line = msgspec.Raw(body.replace(b"\n", b" ").replace(b"\r", b" "))
    return Answer(_new_id(), custom_id, Response(status_code, request_id, one_line), None)


def failed(custom_id: str, code: str, message: str) -> Answer:
    """The output line for a request that got no response."""
    return Answer(_new_id(), custom_id, None, Error(code, message))


def _new_id() -> str:
    return f"batch_req_{uuid.uuid4().hex}"


def output_tokens(body: bytes) -> int:
    """Number of tokens that the model wrote; 0 if the body has no such integers. Raises ValueError
    if the body is not a JSON object."""
    completion: _Completion = _checked(body, _decode_completion)
    try:
        usage = _decode_usage(completion.usage)
    except msgspec.ValidationError:
        return 0
    return max(usage.completion_tokens, usage.output_tokens)


def error_message(body: bytes) -> str:
    """The message in an error's body, in one line that can be encoded."""
    try:
        document = json.loads(body)
        message = document.get("error", document)
        text = str(message["message"] if isinstance(message, dict) else message)
    except (ValueError, KeyError, AttributeError, RecursionError):
        text = body[:1000].decode(errors="replace")
    # JSON may contain half of a surrogate pair, which UTF-8 cannot encode.
    text = text.encode(errors="replace").decode()
    return " ".join(text.split())[:500]


def error_body(body: bytes) -> bytes:
    """Returns `body` if it is a JSON object, else OpenAI's error object with its text."""
    try:
        output_tokens(body)
        return body
    except ValueError:
        error = {"message": error_message(body), "type": "invalid_request_error"}
        return msgspec.json.encode({"error": error | {"param": None, "code": None}})
