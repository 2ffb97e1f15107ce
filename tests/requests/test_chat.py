import json
from typing import Any

import pytest

from serving.mistral.grammar import CallableTool
from serving.mistral.rules import InvalidRequest
from serving.requests import chat
from serving.requests.request import (
    Chat,
    RepetitionDetection,
    Request,
    Sampling,
    StructuredOutputs,
    Tools,
)
from tests.requests.common_fields import OTHERS, SAMPLING
from tests.support.reading import READING

MESSAGES = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "null"}}}


def read(**fields: Any) -> tuple[Request, chat.ChatOptions]:
    return chat.read(json.dumps({"messages": MESSAGES, **fields}).encode(), *READING)


def refused(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        read(**fields)
    return error.value


def tool(name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


def test_defaults() -> None:
    request, options = read()
    assert request == Request(model=None, prompt=Chat(MESSAGES), sampling=Sampling(), stop=[])
    assert options == chat.ChatOptions(1, usage_at_end=True)


def test_every_parameter_of_sampling_is_read() -> None:
    request, _ = read(
        **SAMPLING,
        logit_bias={"5": -100},
        repetition_detection={"max_pattern_size": 3},
        logprobs=True,
        top_logprobs=4,
    )
    assert request.sampling == Sampling(
        **SAMPLING, repetition_detection=RepetitionDetection(3), logit_bias={5: -100.0}, logprobs=4
    )
    assert {*SAMPLING, "logit_bias", "logprobs", "repetition_detection"} == set(
        Sampling.__struct_fields__
    )


def test_every_other_field_is_read() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    request, seen = read(**OTHERS, stop="x", stream_options=options)
    assert {name: getattr(request, name) for name in OTHERS} == OTHERS
    assert request.stop == ["x"]
    assert seen == chat.ChatOptions(3, True, True, True)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
    ],
)
def test_limits_of_tokens(fields: dict[str, Any], limit: int | None) -> None:
    assert read(**fields)[0].max_tokens == limit


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
)
def test_logprobs(fields: dict[str, Any], count: int | None) -> None:
    assert read(**fields)[0].sampling.logprobs == count


def test_a_message_that_goes_on_may_be_repeated() -> None:
    messages = [*MESSAGES, {"role": "assistant", "content": "Hel"}]
    request, options = read(messages=messages, continue_final_message=True, echo=True)
    assert request.prompt == Chat(messages, [], True)
    assert options.echo == "Hel"
    assert read(messages=messages, continue_final_message=True)[1].echo == ""


@pytest.mark.parametrize(
    ("content", "echo"),
    [
        ([{"type": "text", "text": "Hel"}], "Hel"),
        ([{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}], "Hel\n\nlo"),
    ],
)
def test_a_message_of_parts_that_goes_on_is_repeated_as_the_prompt_has_it(
    content: Any, echo: str
) -> None:
    messages = [*MESSAGES, {"role": "assistant", "content": content}]
    assert read(messages=messages, continue_final_message=True, echo=True)[1].echo == echo


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
        {"response_format": {"type": "json_object"}},
        {
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "tool_choice": "required",
        },
    ],
)
def test_no_answer_repeats_a_message_of_the_users(fields: dict[str, Any]) -> None:
    assert read(echo=True, **fields)[1].echo == ""


@pytest.mark.parametrize(
    ("options", "schema"),
    [
        (
            {"disable_any_whitespace": True},
            {**SCHEMA, "x-guidance": {"item_separator": ",", "key_separator": ":"}},
        ),
        ({"disable_any_whitespace": False, "disable_additional_properties": None}, SCHEMA),
    ],
)
def test_options_of_vllms_json(options: dict[str, Any], schema: Any) -> None:
    form = read(structured_outputs={"json": SCHEMA, **options})[0].form
    assert form is not None and form.schema == schema


def test_vllms_json_may_close_all_objects() -> None:
    inner = {"properties": {"a": {"type": "object"}}}
    given = {"type": "object", "properties": {"b": inner}, "additionalProperties": True}
    form = {"json": given, "disable_additional_properties": True}
    closed = {**given, "properties": {"b": {**inner, "additionalProperties": False}}}
    made = read(structured_outputs=form)[0].form
    assert made is not None and made.schema == closed


F, G = CallableTool("f", {"type": "object"}, False), CallableTool("g", None, True)


@pytest.mark.parametrize(
    ("choice", "tools"),
    [
        (None, Tools([F, G], "auto")),
        ("auto", Tools([F, G], "auto")),
        ("required", Tools([F, G], "required")),
        ("none", Tools()),
        (tool("g"), Tools([G], "required")),
    ],
)
def test_tools_and_the_choice_among_them(choice: Any, tools: Tools) -> None:
    given = [tool("f", parameters={"type": "object"}), tool("g", strict=True)]
    request, _ = read(tools=given, tool_choice=choice)
    assert request.tools == tools
    assert isinstance(request.prompt, Chat) and request.prompt.tools == given
    one, _ = read(tools=given, tool_choice=choice, parallel_tool_calls=False)
    assert one.tools.parallel == (choice == "none")


def test_the_prompt_has_of_a_tool_what_the_tokenizer_knows() -> None:
    given = tool(description=None, parameters=None, strict=None, other=1)
    request, _ = read(tools=[given])
    assert isinstance(request.prompt, Chat) and request.prompt.tools == [tool()]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", []),
        ("messages", "Hi"),
        ("messages", [{"role": "friend", "content": "Hi"}]),
        ("messages", [{"role": "user"}]),
        ("messages", [{"role": "user", "content": [{"type": "audio"}]}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": 5}]}]),
        ("messages", [{"role": "tool", "content": "x"}]),
        ("messages", [{"role": "assistant", "tool_calls": [{"id": "a"}]}]),
        ("max_tokens", 0),
        ("n", 0),
        ("n", 129),
        ("n", "many"),
        ("min_tokens", -1),
        ("stop", ["a", ""]),
        ("stop", ["a"] * 257),
        ("top_logprobs", 21),
        ("top_logprobs", 1),
        ("prompt_logprobs", -2),
        ("stream_options", {"include_usage": True}),
        ("truncate_prompt_tokens", -2),
        ("truncation_side", "middle"),
        ("cache_salt", "a@b"),
        ("temperature", "hot"),
        ("tools", [{"type": "custom"}]),
        ("tools", [{"type": "function", "function": {}}]),
        ("tools", [tool(parameters=5)]),
        ("tool_choice", "required"),
        ("tool_choice", "sometimes"),
        ("tool_choice", {"type": "function"}),
        ("tool_choice", tool("other")),
        ("response_format", {"type": "xml"}),
        ("response_format", {"type": "json_schema", "json_schema": {}}),
        ("response_format", {"type": "json_object", "schema": "object"}),
        ("structured_outputs", {}),
        ("structured_outputs", {"regex": "a", "choice": ["a"]}),
    ],
)
def test_what_is_refused_names_the_field(field: str, value: Any) -> None:
    error = refused(**{field: value})
    assert error.param == field
    assert field in error.message


def test_a_refusal_names_the_place() -> None:
    error = refused(messages=[*MESSAGES, {"role": "user", "content": [{"type": "audio"}]}])
    assert error.message.startswith("messages[1].content[0].type")


def test_prompt_logprobs_are_not_streamed() -> None:
    assert refused(stream=True, prompt_logprobs=1).param == "prompt_logprobs"


@pytest.mark.parametrize(
    ("fields", "schema", "constraint"),
    [
        ({"response_format": {"type": "text"}}, None, None),
        ({"response_format": {"type": "json_object"}}, {"type": "object"}, None),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            SCHEMA,
            None,
        ),
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            SCHEMA,
            None,
        ),
        ({"response_format": {"type": "json_object", "schema": None}}, {"type": "object"}, None),
        ({"response_format": {"type": "json_object", "schema": {}}}, {"type": "object"}, None),
        ({"structured_outputs": {"json": SCHEMA}}, SCHEMA, None),
        ({"structured_outputs": {"json_object": True}}, {"type": "object"}, None),
        ({"structured_outputs": {"choice": ["a"]}}, None, StructuredOutputs(choice=["a"])),
    ],
)
def test_the_form_of_the_text(fields: Any, schema: Any, constraint: Any) -> None:
    form = read(**fields)[0].form
    assert (form and form.schema) == schema and (form and form.constraint) == constraint


@pytest.mark.parametrize("metadata", [{str(n): "" for n in range(17)}, {"a": 1}, "text"])
def test_metadata_that_is_to_be_stored_has_openais_limits(metadata: Any) -> None:
    error = refused(store=True, metadata=metadata)
    assert (error.param, error.code) == ("metadata", "invalid_value")
    assert read(metadata=metadata)[0] == read(store=True, metadata={"a": "b"})[0] == read()[0]


USER = {"role": "user", "content": "Hello"}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
THOUGHT = {"type": "thinking", "thinking": "a"}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "content": "r"}


def calls(*given: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(given)}


def calling(**function: Any) -> dict[str, Any]:
    return calls({**CALL, "function": {"name": "f", "arguments": "{}", **function}})


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([{"role": "system", "content": [IMAGE]}, USER], "messages[0].content[0].type"),
        ([USER, {"role": "assistant", "content": [IMAGE]}, USER], "messages[1].content[0].type"),
        (
            [{"role": "user", "content": [{**IMAGE, "image_url": {"url": "x", "detail": 5}}]}],
            "messages[0].content[0].image_url.detail",
        ),
        ([{"role": "user", "content": [THOUGHT]}], "messages[0].content[0].type"),
        ([{"role": "system", "content": [THOUGHT]}, USER], "messages[0].content[0].type"),
        ([USER, calls(CALL), {**RESULT, "name": 5}, USER], "messages[2].name"),
        ([USER, calls({**CALL, "type": "wizard"}), RESULT, USER], "messages[1].tool_calls[0].type"),
        ([USER, calling(name="a b"), RESULT, USER], "messages[1].tool_calls[0].function.name"),
        (
            [USER, calling(arguments='{"a": %s}' % ("9" * 6000)), RESULT, USER],
            "messages[1].tool_calls[0].function.arguments",
        ),
        ([USER, RESULT, USER], "messages[1].tool_call_id"),
        (
            [USER, calls(CALL), {**RESULT, "tool_call_id": "call_1"}, USER],
            "messages[2].tool_call_id",
        ),
        ([USER, calls(CALL), RESULT, RESULT, USER], "messages[3].tool_call_id"),
        ([USER, calls(CALL, CALL), RESULT, USER], "messages[1].tool_calls[1].id"),
        ([USER, calls(CALL), USER, calls(CALL), RESULT, USER], "messages[3]"),
    ],
)
def test_a_message_that_no_prompt_can_have_is_told_by_its_place(messages: Any, place: str) -> None:
    error = refused(messages=messages)
    assert (error.param, error.code) == ("messages", "invalid_value")
    assert error.message.startswith(f"{place} must")


@pytest.mark.parametrize(
    "messages",
    [
        [USER, calling(arguments='{"a": "%s"}' % ("9" * 6000)), RESULT, USER],
        [RESULT, USER],
        [USER, calls(CALL), RESULT, calls(CALL), RESULT, USER],
        [USER, calls(CALL), USER],
    ],
)
def test_what_the_tokenizer_takes_passes(messages: Any) -> None:
    read(messages=messages)


@pytest.mark.parametrize(
    ("function", "place"),
    [
        ({"description": 5}, "tools[0].function.description"),
        ({"strict": "x"}, "tools[0].function.strict"),
        ({"name": "a b"}, "tools[0].function.name"),
        ({"name": ""}, "tools[0].function.name"),
    ],
)
def test_a_tool_that_no_prompt_can_have_is_told_by_its_place(function: Any, place: str) -> None:
    error = refused(tools=[{"type": "function", "function": {"name": "f", **function}}])
    assert error.param == "tools" and error.message.startswith(f"{place} must")


def raw_refusal(raw: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        chat.read(raw, *READING)
    return error.value


@pytest.mark.parametrize(
    ("raw", "param", "says"),
    [
        (b'{"messages": [], "top_p": NaN}', "top_p", "top_p is NaN"),
        (b'{"messages": [{"content": "\\ud83d"}]}', "messages", "messages[0].content is"),
        (b'{"messages": [{"content": "\\udc00"}]}', "messages", "messages[0].content is"),
        (b'\xef\xbb\xbf{"messages": []}', None, "byte order mark (byte 0)"),
        ('{"messages": []}'.encode("utf-16"), None, "byte order mark (byte 0)"),
        (b'{"a": "\xff"}', None, "not UTF-8 (byte 7)"),
        (b'{"a": 1,}', None, "trailing comma in object (byte 8)"),
        (b"[" * 100_000, None, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_told_by_reason_and_place(
    raw: bytes, param: str | None, says: str
) -> None:
    error = raw_refusal(raw)
    assert (error.param, error.code) == (param, "invalid_json")
    assert says in error.message


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 6000])
@pytest.mark.parametrize("place", ["top_p", "logit_bias.5"])
def test_a_number_out_of_range_is_told_by_its_place(place: str, number: str) -> None:
    first, _, inner = place.partition(".")
    value = f'{{"{inner}": {number}}}' if inner else number
    error = raw_refusal(b'{"messages": [], "%s": %s}' % (first.encode(), value.encode()))
    assert error.param == first and error.message.startswith(f"{place}: ")
