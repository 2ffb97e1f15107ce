import json

import pytest
from openai.types.responses import ResponseErrorEvent

from serving.dispatch import Reason, Rejection
from serving.router.http import errors, protocol_errors
from serving.router.http.errors import ApiError

CHAT = "/v1/chat/completions"
EACH = [
    errors.unknown_model("a", ["b", "c"]),
    errors.no_replica("m", 60),
    errors.rejected("m", Rejection("queue_full", 20.0, 15)),
    errors.rejected("m", Rejection("wait_too_long", 20.0, 15)),
    errors.rejected("m", Rejection("deadline_unreachable", 20.0, 15)),
    errors.rejected("m", Rejection("deadline_too_short", 0.0, None)),
    errors.rejected("m", Rejection("no_replica", 60.0, 45)),
    errors.replicas_failed("m", 5),
    errors.stream_broken("why"),
    protocol_errors.body_too_large(100),
    protocol_errors.not_found("GET", "/a"),
    protocol_errors.method_not_allowed("GET", "/a", "POST"),
    errors.internal_error(),
]


@pytest.mark.parametrize("error", EACH, ids=lambda e: str(e.code))
def test_the_body_is_openais_error_object(error: ApiError) -> None:
    assert json.loads(error.body("/v1/responses")) == {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }
    assert error.message and error.type and error.code
    assert (b"content-type", b"application/json") in error.headers


def test_a_later_try_and_the_right_method_are_headers() -> None:
    assert (b"retry-after", b"60") in errors.no_replica("m", 60).headers
    assert (b"retry-after", b"5") in errors.replicas_failed("m", 5).headers
    assert (b"allow", b"POST") in protocol_errors.method_not_allowed("GET", "/a", "POST").headers


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("queue_full", 429),
        ("wait_too_long", 429),
        ("deadline_unreachable", 429),
        ("no_replica", 503),
    ],
)
def test_a_rejection_says_why_and_when_to_retry(reason: Reason, status: int) -> None:
    error = errors.rejected("m", Rejection(reason, wait_s=19.2, retry_after_s=15))
    assert error.status == status
    assert error.code == reason
    assert (b"x-refused", reason.encode()) in error.headers
    assert (b"retry-after", b"15") in error.headers
    assert "20 s" in error.message and "15 s" in error.message


def test_what_can_never_be_served_has_no_retry_time() -> None:
    error = errors.rejected("m", Rejection("deadline_too_short", 0.0, None))
    assert error.status == 400
    assert b"retry-after" not in dict(error.headers)
    assert (b"x-refused", b"deadline_too_short") in error.headers


def test_no_other_headers_are_sent() -> None:
    assert errors.internal_error().headers == [(b"content-type", b"application/json")]


def test_as_an_event_it_is_one_line_of_data() -> None:
    error = ApiError(400, "two\n\nlines")
    assert error.event(CHAT, 3) == b"data: " + error.body(CHAT) + b"\n\n"
    assert b"\n" not in error.body(CHAT)


def test_as_an_event_of_responses_it_is_one_of_theirs_and_has_openais_envelope() -> None:
    error = ApiError(500, "two\n\nlines", code="replica_failed")
    name, data, *rest = error.event("/v1/responses", 3).split(b"\n")
    assert (name, rest) == (b"event: error", [b"", b""])
    event = json.loads(data.removeprefix(b"data: "))
    typed = ResponseErrorEvent.model_validate(event, strict=True)
    message = "two\n\nlines (status 500)"
    assert (typed.sequence_number, typed.code, typed.message) == (3, error.code, message)
    told = ApiError(500, message, type="server_error", code=error.code)
    assert event["error"] == json.loads(told.body("/v1/responses"))["error"]


@pytest.mark.parametrize(
    "error",
    [
        errors.no_replica("m", 60),
        errors.replicas_failed("m", 5),
        errors.router_stopped(),
        errors.stream_broken("why"),
        errors.rejected("m", Rejection("wait_too_long", 20.0, 15)),
    ],
    ids=lambda error: str(error.code),
)
@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/messages"])
def test_an_agent_knows_from_an_event_that_it_may_send_the_turn_again(
    error: ApiError, path: str
) -> None:
    data = error.event(path, 3).partition(b"data: ")[2]
    told = json.loads(data)["error"]
    assert told["message"] == f"{error.message} (status {error.status})"
    # Crush's list
    assert told["type"] in ("server_error", "overloaded_error", "api_error", "rate_limit_error")


def test_an_agent_is_not_told_to_send_again_what_ends_engines() -> None:
    error = errors.crashes_engine("crash")
    assert error.event(CHAT, 3) == b"data: " + error.body(CHAT) + b"\n\n"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
    ],
)
def test_as_an_event_of_messages_it_has_anthropics_shape(status: int, kind: str) -> None:
    name, data, *rest = (
        ApiError(status, "two\n\nlines").event("/v1/messages", 3, "r-7").split(b"\n")
    )
    assert (name, rest) == (b"event: error", [b"", b""])
    error = json.loads(data.removeprefix(b"data: "))
    message = "two\n\nlines" if status == 400 else f"two\n\nlines (status {status})"
    told = {"type": kind, "message": message}
    assert error == {"type": "error", "error": told, "request_id": "r-7"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_the_body_is_anthropics_on_its_api(status: int, kind: str, path: str) -> None:
    body = json.loads(ApiError(status, "why", code="code").body(path, "r-7"))
    told = {"type": kind, "message": "why"}
    assert body == {"type": "error", "error": told, "request_id": "r-7"}


VLLM_ERRORS = [
    ({"message": "m", "type": "BadRequestError", "param": "body.seed", "code": 400}, "seed", None),
    ({"message": "m", "type": "Bad Request", "param": None, "code": 400}, None, None),
    ({"message": "m", "type": "NotFoundError", "code": "no_such"}, None, "no_such"),
    ({"message": "m", "type": "x", "param": ["body", "seed"]}, None, None),
]


@pytest.mark.parametrize(("said", "param", "code"), VLLM_ERRORS)
def test_an_engines_error_has_the_routers_form(
    said: dict[str, object], param: str | None, code: str | None
) -> None:
    error = errors.of_engine(400, json.dumps({"error": said}).encode())
    assert (error.status, error.message, error.type) == (400, "m", "invalid_request_error")
    assert (error.param, error.code) == (param, code)


def test_an_overloaded_backend_is_told_as_such() -> None:
    said = b'{"error": {"message": "m", "type": "rate_limit_exceeded", "code": "slow_down"}}'
    error = errors.of_engine(429, said)
    assert (error.type, error.code) == ("rate_limit_error", "slow_down")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.adapter_not_loaded("a"), "service_unavailable_error"),
        (errors.of_engine(503, b"{}"), "service_unavailable_error"),
        (errors.of_engine(403, b"{}"), "permission_error"),
        (errors.of_engine(500, b"{}"), "server_error"),
        (errors.of_engine(404, b"{}"), "invalid_request_error"),
    ],
)
def test_the_type_of_an_error_follows_from_its_status(error: ApiError, kind: str) -> None:
    assert error.type == kind


@pytest.mark.parametrize("body", [b'{"error": "text"}', b'{"detail": "text"}'])
def test_an_error_of_other_servers_is_its_text(body: bytes) -> None:
    assert errors.of_engine(400, body).message == "text"


@pytest.mark.parametrize(
    "said",
    [
        {
            "code": 400,
            "message": "request (9001 tokens) exceeds the available context size (4096 tokens), "
            "try increasing it",
            "type": "exceed_context_size_error",
        },
        "The number of tokens to keep from the initial prompt is greater than the context length "
        "(n_keep: 9001>= n_ctx: 4096). Try to load the model with a larger context length.",
        {"code": 400, "message": "This model's maximum context length is 4096 tokens. However, …"},
    ],
)
def test_agents_know_from_other_servers_too_that_a_prompt_is_too_long(said: object) -> None:
    error = errors.of_engine(400, json.dumps({"error": said}).encode())
    assert error.code == "context_length_exceeded"
    assert "maximum context length is 4096 tokens" in error.message


def test_the_code_of_another_server_is_not_shown() -> None:
    said = "1 validation error:\n  {'input': 'secret'}\n\n  File \"/app/server.py\", line 376"
    error = errors.of_engine(500, json.dumps({"error": {"message": said}}).encode())
    assert error.message == "1 validation error:"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 5}', b"\xff"])
def test_what_is_no_error_of_an_engine_shows_only_its_status(body: bytes) -> None:
    error = errors.of_engine(502, body)
    assert (error.status, error.type) == (502, "server_error")
    assert "502" in error.message


def test_what_an_engine_answers_in_place_of_a_stream_is_its_error() -> None:
    said = b'{"type": "error", "error": {"type": "not_found_error", "message": "no such thing"}}'
    error = errors.not_streamed(404, said)
    assert (error.status, error.message) == (404, "no such thing")
    assert errors.not_streamed(200, b"{}").status == 502


def test_names_that_a_client_made_up_are_cut() -> None:
    assert len(errors.unknown_model("x" * 100_000, ["m"]).message) < 300
    assert len(protocol_errors.not_found("GET", "/" + "x" * 100_000).message) < 300


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/completions", "/v1/completions"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/v1/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/openai/deployments/tiny/chat/completions", "/v1/chat/completions"),
        ("/models", "/v1/models"),
        ("/v1/tokenize", "/tokenize"),
    ],
)
def test_a_misplaced_path_is_told_the_right_one(path: str, meant: str) -> None:
    message = protocol_errors.not_found("POST", path).message
    assert path in message and f"Use {meant}:" in message


@pytest.mark.parametrize(
    "path", ["/", "/v1/embeddings", "/v1/chat", "/v1/incompletions", "/v1/messages/batches"]
)
def test_no_path_is_told_where_none_is_meant(path: str) -> None:
    assert "Use" not in protocol_errors.not_found("POST", path).message
    assert len(protocol_errors.method_not_allowed("GET", "/" + "x" * 100_000, "POST").message) < 300
