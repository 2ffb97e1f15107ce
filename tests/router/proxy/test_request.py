import json
from typing import Any

import pytest

from serving.asgi import Headers
from serving.dispatch import ExpectedOutput
from serving.mistral import InvalidRequest, ModelRules
from serving.placement import Work
from serving.requests.openai_body import MAX_ANSWERS, check_answers
from serving.router.http.errors import ApiError
from serving.router.proxy.request import (
    RoutingFields,
    decode,
    engine_request,
    routing_fields,
    work_of,
)
from serving.router.replicas.backend import Backend
from serving.router.replicas.model import Model
from serving.router.responses.objects import encoded

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
RULES = ModelRules(
    "mistral-test/small", "v11", context_tokens=1000, image_limit=2, other_server=True
)
BACKEND = Backend("http://other.test/v1", RULES.model_id, 1000)


def fields_of(body: bytes) -> RoutingFields:
    return routing_fields(decode(body))


def sent(body: dict[str, Any], rules: ModelRules | None = RULES) -> Any:
    """Returns the request as a backend gets it."""
    body = {"model": RULES.model_id} | body
    model = Model(RULES.model_id, rules=rules, backend=BACKEND)
    return engine_request(CHAT, json.dumps(body).encode(), body, model)


def test_the_fields_are_read_and_all_else_is_left_alone() -> None:
    fields = fields_of(b'{"model": "m", "messages": [{"content": [1, null]}], "max_tokens": 7}')
    assert fields == RoutingFields(model="m", max_tokens=7)


def test_numbers_are_read_as_leniently_as_vllm_reads_them() -> None:
    assert fields_of(b'{"max_tokens": "16"}') == fields_of(b'{"max_tokens": 16.0}')


def test_null_fields_count_as_absent() -> None:
    assert fields_of(b'{"model": null, "max_tokens": null}') == RoutingFields()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"model": "m"} {}', "trailing characters"),
        (b'{"model": "\xff"}', "not valid JSON"),
        (b'{"messages": ' + b"[" * 100_000, "nested too deeply"),
        (b'["m"]', "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
        (b'{"model": 5}', "`$.model`"),
        (b'{"max_tokens": "many"}', "`$.max_tokens`"),
        (b'{"max_tokens": "\\ud81e"}', "lone surrogate"),
    ],
)
def test_what_is_no_request_is_a_400_that_says_why(body: bytes, says: str) -> None:
    with pytest.raises(ApiError) as raised:
        fields_of(body)
    assert raised.value.status == 400
    assert says in raised.value.message


@pytest.mark.parametrize(
    ("body", "param"),
    [(b'{"n": []}', "n"), (b'{"max_tokens": "many"}', "max_tokens"), (b"[]", None)],
)
def test_the_error_names_the_field(body: bytes, param: str | None) -> None:
    with pytest.raises(ApiError) as raised:
        fields_of(body)
    assert (raised.value.param, raised.value.type) == (param, "invalid_request_error")


def test_a_schema_that_is_nested_too_deeply_is_a_400() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5_000):
        schema = {"items": schema}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    body = {"tools": [tool], "tool_choice": "required"}
    rules = ModelRules(
        "mistral-test/small", "v7", context_tokens=1000, image_limit=2, other_server=True
    )
    with pytest.raises(ApiError) as raised:
        engine_request(CHAT, b"", body, Model(RULES.model_id, rules=rules, backend=BACKEND))
    assert (raised.value.status, raised.value.code) == (400, "invalid_json")


def test_the_error_keeps_what_the_client_wrote_to_itself() -> None:
    with pytest.raises(ApiError) as raised:
        fields_of(b'{"messages": "a secret", "model": {"another": "secret"}}')
    assert "secret" not in raised.value.message


@pytest.mark.parametrize("body", [b'{"x": "a\\ud800"}', b"\xef\xbb\xbf{}"])
def test_json_that_the_engines_take_beyond_the_standard_is_taken(body: bytes) -> None:
    raw = body
    assert engine_request(CHAT, raw, decode(raw), Model(RULES.model_id, rules=RULES)).body is raw


def test_half_a_surrogate_pair_survives_a_change_elsewhere() -> None:
    body = {"x": "a\ud800"}
    assert json.loads(encoded(body)) == body


def work(path: str = CHAT, headers: Headers | None = None, **body: Any) -> Work:
    fields = routing_fields(body)
    model = Model("mistral-test/small", rules=RULES)
    return work_of(path, fields, body, model, ExpectedOutput(512), headers or [])


def test_work_is_the_prompt_by_its_size_and_the_clients_limit() -> None:
    asked = work(messages=[{"role": "user", "content": "x" * 4000}], max_tokens=100, stream=True)
    assert asked.prompt_tokens == asked.prefix.tokens == pytest.approx(1000, rel=0.01)
    assert (asked.output_tokens, asked.streamed) == (100, True)


@pytest.mark.parametrize("limit", [None, 0, -1_000_000, 10**30, 513])
def test_a_limit_that_says_nothing_books_the_expected_answer(limit: int | None) -> None:
    assert work(max_tokens=limit).output_tokens == 512


@pytest.mark.parametrize("n", [None, 1, 3, MAX_ANSWERS])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_each_of_several_answers_is_booked(path: str, n: int | None) -> None:
    assert work(path, max_tokens=9, n=n).output_tokens == 9 * (n or 1)


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
def test_an_api_without_several_answers_has_one(path: str) -> None:
    assert work(path, max_tokens=9, n=2**70).output_tokens == 9


@pytest.mark.parametrize("n", [-1, 0, MAX_ANSWERS + 1, 2**63 - 1, str(2**70)])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_more_answers_than_an_engine_gives_are_refused_as_it_does(path: str, n: Any) -> None:
    with pytest.raises(ApiError) as raised:
        work(path, max_tokens=9, n=n)
    with pytest.raises(InvalidRequest) as by_the_engine:
        check_answers(int(n))
    error = raised.value
    assert (error.status, error.message) == (400, by_the_engine.value.message)
    assert (error.param, error.code) == ("n", "invalid_value")


@pytest.mark.parametrize(
    "field",
    ["max_tokens", "max_completion_tokens", "max_output_tokens"],
)
def test_each_api_names_its_limit_differently(field: str) -> None:
    limits: dict[str, Any] = {field: 9}
    assert work(**limits).output_tokens == 9


def test_what_generates_nothing_takes_no_headroom() -> None:
    asked = work("/tokenize", messages=[{"role": "user", "content": "x" * 4000}])
    assert (asked.prompt_tokens, asked.output_tokens) == (0, 0)


def test_a_session_is_named_by_header_or_body() -> None:
    assert work().session is None
    assert work(prompt_cache_key=5).session is None
    assert work(prompt_cache_key="key").session == "key"
    assert work(prompt_cache_key="key", headers=[(b"x-session-id", b"id")]).session == "id"


def test_max_completion_tokens_wins_over_the_deprecated_max_tokens() -> None:
    assert work(max_tokens=9, max_completion_tokens=5).output_tokens == 5


def test_a_request_that_needs_nothing_is_sent_as_the_very_bytes_that_came() -> None:
    raw = b'{"model":"mistral-test/small" , "messages":[{"role":"user","content":"caf\\u00e9"}]}'
    model = Model(RULES.model_id, rules=RULES, backend=BACKEND)
    request = engine_request(CHAT, raw, decode(raw), model)
    assert request.body is raw
    assert (request.headers, request.answer) == ([], None)


def test_changes_are_reported_in_headers() -> None:
    request = sent({"max_tokens": 5000, "reasoning_effort": "low", "documents": []})
    assert json.loads(request.body) == {"model": RULES.model_id, "max_tokens": 1000}
    headers = dict(request.headers)
    assert headers[b"x-max-tokens-clamped"] == b"1000"
    assert headers[b"x-request-warnings"].count(b"; ") == 1
    assert request.answer is None


def test_an_answer_that_needs_work_has_someone_to_do_it() -> None:
    assert sent({"reasoning_format": "separate"}).answer is not None


def test_a_request_that_cannot_be_meant_is_openais_400() -> None:
    with pytest.raises(ApiError) as raised:
        sent({"chat_template": "{{ x }}"})
    assert (raised.value.status, raised.value.param) == (400, "chat_template")


def test_a_model_without_rules_gets_everything_as_it_is() -> None:
    request = sent({"chat_template": "{{ x }}", "max_tokens": 10**9}, rules=None)
    assert (
        json.loads(request.body).items()
        >= {"chat_template": "{{ x }}", "max_tokens": 10**9}.items()
    )


@pytest.mark.parametrize(
    ("agent", "options", "whole"),
    [
        ("mistral-client-python/3.7.0", {"include_usage": True}, True),
        ("opencode/1.18.33", None, True),
        ("opencode/1.18.33", {"include_usage": True}, False),
        ("OpenAI/Python 3.3.0", None, False),
    ],
)
def test_clients_that_take_no_pieces_of_calls_are_known(
    agent: str, options: Any, whole: bool
) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    body = {"model": RULES.model_id, "stream": True, "stream_options": options, "tools": [tool]}
    model = Model(RULES.model_id, rules=RULES, backend=BACKEND)
    headers = [(b"user-agent", agent.encode())]
    answer = engine_request(CHAT, json.dumps(body).encode(), body, model, headers=headers).answer
    piece = {"index": 0, "id": "call_a", "function": {"name": "f", "arguments": "{"}}
    choice = {"index": 0, "delta": {"tool_calls": [piece]}, "finish_reason": None}
    event = b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
    assert answer is not None
    assert (b"tool_calls" in answer.feed(event)) != whole
