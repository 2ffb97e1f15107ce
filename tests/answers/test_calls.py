"""Tool calls in the forms of the tokenizers."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.answers.call_array import CallArray
from serving.answers.events import Answer, Arguments, CallBegun, CallEnded, Event, Step, Text
from serving.answers.json_text import complete_length, unescape
from tests.answers.parsing import cuts, encode, new_ids, parse, parser, plain, read

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)
BLANKS = st.text(alphabet=" \n\t\r", max_size=2)


def told(answer: Answer) -> list[tuple[str, Any, bool]]:
    return [(call.name, json.loads(call.arguments), call.complete) for call in answer.calls]


@st.composite
def call_arrays(draw: Any) -> tuple[str, list[tuple[str, Any, bool]]]:
    """Returns an array in any style, and what its calls are."""

    def blank() -> str:
        return str(draw(BLANKS))

    def text_of(value: Any) -> str:
        return json.dumps(
            value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))
        )

    calls, written = draw(st.lists(st.tuples(NAMES, OBJECTS), min_size=1, max_size=3)), []
    for name, arguments in calls:
        value = text_of(arguments)
        members = [("name", text_of(name))]
        members.append(("arguments", text_of(value) if draw(st.booleans()) else value))
        if draw(st.booleans()):
            members.append(("id", '"abcDEF123"'))
        if draw(st.booleans()):
            members.append((draw(st.sampled_from(["type", "x\n"])), text_of(draw(VALUES))))
        members = draw(st.permutations(members))
        body = f"{blank()},".join(
            f"{blank()}{text_of(key)}{blank()}:{blank()}{member}" for key, member in members
        )
        written.append(f"{blank()}{{{body}{blank()}}}")
    text = f"{blank()}[{f'{blank()},'.join(written)}{blank()}]"
    return text, [(name, arguments, True) for name, arguments in calls]


@settings(max_examples=100, deadline=None)
@given(call_arrays(), st.randoms(use_true_random=False))
def test_v7_calls_come_through_in_any_style(array: Any, dice: random.Random) -> None:
    text, calls = array
    ids = [*encode("v7", "[TOOL_CALLS]"), *plain("v7", text + " and more")]
    answer = parse("v7", cuts(ids, dice), tools=True)
    assert told(answer) == calls
    assert answer.text == ""
    assert answer.end is not None and answer.end.reason == "tool_calls"
    assert parse("v7", [ids], tools=True) == answer


@settings(max_examples=80, deadline=None)
@given(call_arrays(), st.data())
def test_v7_arrays_mean_the_same_in_pieces_of_characters(array: Any, data: Any) -> None:
    text = array[0]
    text = text[: data.draw(st.integers(0, len(text)))] + data.draw(st.sampled_from(["", "!", '"']))
    assert array_of(list(text)) == array_of([text])


def array_of(pieces: list[str]) -> tuple[Answer, str]:
    array, answer = CallArray(new_ids()), Answer()
    out: list[Event] = []
    text = array.begin(out)
    for piece in pieces:
        given_back = array.add(piece, out)
        text += given_back
        if given_back:
            text += "".join(pieces)[len(text) :]
            break
    text += array.end(True, out)
    answer.add(Step(out))
    return answer, text


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(NAMES, OBJECTS, st.sampled_from(["", "123456789"])), min_size=1, max_size=3),
    st.randoms(use_true_random=False),
)
@pytest.mark.parametrize("version", ["v11", "v13"])
def test_named_calls_come_through(version: str, calls: Any, dice: random.Random) -> None:
    ids: list[int] = []
    for name, arguments, id in calls:
        ids += encode(version, "[TOOL_CALLS]")
        ids += plain(version, dice.choice(["", " "]) + name + dice.choice(["", " "]))
        ids += encode(version, f"[CALL_ID]{id}[ARGS]" if id else "[ARGS]")
        ids += plain(version, json.dumps(arguments))
    answer = parse(version, cuts(ids, dice), tools=True)
    assert told(answer) == [(name, arguments, True) for name, arguments, _ in calls]
    for call, (_, _, id) in zip(answer.calls, calls, strict=True):
        assert call.id == id if id else call.id.startswith("call")
    assert parse(version, [ids], tools=True) == answer


def test_arguments_stream_as_they_come() -> None:
    for version, text in (
        ("v7", '[TOOL_CALLS][{"name": "f", "arguments": {"a": "b c"}}]'),
        ("v7", r'[TOOL_CALLS][{"name": "f", "arguments": "{\"a\": \"b c\"}"}]'),
        ("v11", '[TOOL_CALLS]f[ARGS]{"a": "b c"}'),
    ):
        reading = parser(version, tools=True)
        steps = [reading.feed([token_id]) for token_id in encode(version, text)]
        pieces = [e.text for step in steps for e in step.events if isinstance(e, Arguments)]
        assert "".join(pieces) == '{"a": "b c"}' and len(pieces) > 5
        assert all(len(step.events) <= 2 for step in steps)


def test_events_of_calls_are_in_order() -> None:
    step = parser("v11", tools=True).feed(
        encode("v11", 'Wait.\n[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{')
    )
    assert step.events == [
        Text("Wait.\n"),
        *(CallBegun("call00001", "f"), Arguments('{"a": 1}'), CallEnded()),
        *(CallBegun("call00002", "g"), Arguments("{")),
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("hello", '{"name": "f"}', "[1]", '["f"]', "[}", '[{"name": 1', '[{"name": ""', "[{,"),
        *('[{"arguments": {}}]', '[{"name" "f"}]', '[{"name": "f", "arguments": !', "[{]", "[,"),
        '[{"arguments": {"a": 😂}, "x": 1}, ',
    ],
)
def test_what_is_no_array_is_text(text: str) -> None:
    answer = read("v7", f"Yes. [TOOL_CALLS]{text} and more 😂")
    assert answer.text == f"Yes. {text} and more 😂"
    answer = read("v7", f"Yes. [TOOL_CALLS]{text} and more 😂", tools=True)
    assert answer.text == f"Yes. {text} and more 😂"
    assert not answer.calls
    assert answer.end is not None and answer.end.reason == "stop"


def test_a_stop_string_ends_text_that_is_no_array() -> None:
    answer = read("v7", "[TOOL_CALLS]no STOP here", tools=True, stop=["STOP"])
    assert answer.text == "no "
    assert answer.end is not None and answer.end.stop == "STOP"


def test_stop_strings_do_not_end_calls() -> None:
    for version, text in (
        ("v7", '[TOOL_CALLS][{"name": "f", "arguments": {"a": "STOP"}}]'),
        ("v11", '[TOOL_CALLS]f[ARGS]{"a": "STOP"}'),
    ):
        answer = read(version, text, tools=True, stop=["STOP", "f", "{"])
        assert told(answer) == [("f", {"a": "STOP"}, True)]


@pytest.mark.parametrize(
    ("version", "text", "calls"),
    [
        ("v7", '[{"name": "ge', []),
        ("v7", '[{"name": "get", "argum', []),
        ("v7", '[{"name": "get", "arguments": {"a": "b', [("get", '{"a": "b')]),
        ("v7", r'[{"name": "get", "arguments": "{\"a\": \"\u00e', [("get", '{"a": "')]),
        ("v7", '[{"arguments": {"a": 1}, "name": "get"', [("get", '{"a": 1}')]),
        ("v11", "ge", []),
        ("v11", "get[CALL_ID]123", []),
        ("v11", "get[ARGS]", [("get", "")]),
        ("v11", 'get[ARGS]{"a": "b', [("get", '{"a": "b')]),
    ],
)
def test_a_call_that_is_cut_off_is_not_complete(
    version: str, text: str, calls: list[tuple[str, str]]
) -> None:
    ids = encode(version, "[TOOL_CALLS]" + text)
    answer = parse(version, [[token_id] for token_id in ids], "length", tools=True)
    assert [(call.name, call.arguments) for call in answer.calls] == calls
    assert not any(call.complete for call in answer.calls)
    assert answer.text == ""
    assert answer.end is not None and answer.end.reason == "length"


@pytest.mark.parametrize(
    ("version", "text"),
    [
        *(("v7", '[{"name": "f"}]'), ("v7", '[{"name": "f", "arguments": null}]')),
        *(("v7", '[{"name": "f", "arguments": ""}]'), ("v11", "f[ARGS]"), ("v11", "f[ARGS] {}")),
        *(("v7", '[{"arguments": null, "name": "f"}]'), ("v11", "f{}")),
    ],
)
def test_a_call_without_arguments_has_an_empty_object(version: str, text: str) -> None:
    (call,) = read(version, "[TOOL_CALLS]" + text, tools=True).calls
    assert (call.name, call.arguments, call.complete) == ("f", "{}", True)


@pytest.mark.parametrize(
    ("id", "used"),
    [("abcDEF123", True), ("abc", False), ("abcDEF12-", False), ("0123456789", False)],
)
def test_ids_of_v7_count_if_they_are_nine_alphanumerics(id: str, used: bool) -> None:
    text = f'[TOOL_CALLS][{{"id": "{id}", "name": "f", "arguments": {{}}}}]'
    (call,) = read("v7", text, tools=True).calls
    assert call.id == (id if used else "call00001")


def test_a_call_before_a_broken_one_stays() -> None:
    text = '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": !'
    answer = read("v7", text, tools=True)
    assert told(answer) == [("f", {}, True)] and answer.text == ""


def test_white_space_alone_before_a_call_is_left_out() -> None:
    assert read("v11", "\n\n[TOOL_CALLS]f[ARGS]{}", tools=True).text == ""
    assert read("v11", "\n\n", tools=True).text == "\n\n"
    assert read("v11", "\n\nSo", tools=True).text == "\n\nSo"


def test_without_tools_a_call_is_text() -> None:
    assert read("v11", "[TOOL_CALLS]f[ARGS]{}").parts == ["f{}"]


def test_an_answer_with_a_call_that_max_tokens_ends_is_too_long() -> None:
    ids = encode("v11", "[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]g[ARGS]{")
    answer = parse("v11", [ids], "length", tools=True)
    assert [call.complete for call in answer.calls] == [True, False]
    assert answer.end is not None and answer.end.reason == "length"


PARTS = st.sampled_from(
    ["a", "é", r"\n", r"\\", r"\"", r"\ud83d", r"\ude02", r"\u00e9", r"\u", r"\x", "u", "d83d", "0"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PARTS, max_size=8))
def test_strings_decode_the_same_in_pieces(parts: list[str]) -> None:
    raw, decoded, rest = "".join(parts), "", ""
    for character in raw:
        rest += character
        length = complete_length(rest)
        decoded, rest = decoded + unescape(rest[:length]), rest[length:]
        assert len(rest) < 12
    assert decoded + unescape(rest) == unescape(raw)
    decoded.encode()


@settings(max_examples=80, deadline=None)
@given(st.text())
def test_strings_decode_as_json(text: str) -> None:
    assert unescape(json.dumps(text)[1:-1]) == text


def test_long_arguments_take_linear_time() -> None:
    """Arguments of 90,000 tokens would take minutes if each were to read all before it."""
    head = encode("v7", '[TOOL_CALLS][{"arguments": {"a": "')
    ids = head + encode("v7", "\\\\x") * 30_000 + encode("v7", '"}, "name": "f"}]')
    answer = parse("v7", [ids], tools=True)
    assert len(told(answer)[0][1]["a"]) == 60_000
