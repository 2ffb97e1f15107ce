import json
from typing import Any

import pytest

from serving.mistral.answer import Answer, AnswerRules

SEPARATE = AnswerRules(separate_reasoning=True)
CALLING = AnswerRules(incomplete_calls=True)
CALL = {"index": 0, "id": "abcdefghi", "function": {"name": "f", "arguments": "{"}}


def event(*choices: dict[str, Any], **fields: Any) -> bytes:
    return b"data: " + json.dumps({"choices": choices, **fields}).encode() + b"\n\n"


def delta(finish_reason: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": fields, "finish_reason": finish_reason}


def stream_of(*texts: str, finish_reason: str = "stop") -> bytes:
    """Returns a stream as vLLM sends it: the role, then text, the end, and [DONE]."""
    events = [event(delta(role="assistant", content=""))]
    events += [event(delta(content=text)) for text in texts]
    return b"".join([*events, event(delta(finish_reason)), b"data: [DONE]\n\n"])


def whole_of(text: str | None, finish_reason: str = "stop", **fields: Any) -> bytes:
    message = {"role": "assistant", "content": text, "reasoning": None, **fields}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return json.dumps({"choices": [choice], "usage": {"total_tokens": 9}}).encode()


def fed(rules: AnswerRules, stream: bytes, step: int) -> bytes:
    answer = Answer(rules)
    pieces = [answer.feed(stream[i : i + step]) for i in range(0, len(stream), step)]
    return b"".join([*pieces, answer.end()])


def joined(stream: bytes, index: int = 0) -> tuple[str, str, str | None]:
    """Returns reasoning, content and finish reason as a client joins them."""
    reasoning, content, finish_reason = "", "", None
    for line in stream.decode().split("\n\n"):
        if not line.startswith("data: {"):
            continue
        for choice in json.loads(line[6:])["choices"]:
            if choice["index"] == index:
                reasoning += choice["delta"].get("reasoning") or ""
                content += choice["delta"].get("content") or ""
                finish_reason = choice["finish_reason"] or finish_reason
    return reasoning, content, finish_reason


def test_nothing_to_do_is_false() -> None:
    assert not AnswerRules()
    assert SEPARATE and CALLING and AnswerRules(originals={"a": "b"})


@pytest.mark.parametrize(
    "text",
    [
        "<think>\n3+4\n</think>\nSeven.",
        "Seven.",
        "<think>\ncut",
        "Ends <thi",
        "",
        "é<think>日</think>本",
    ],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("width", [1, 3, 100])
def test_a_stream_joined_equals_the_whole(text: str, step: int, width: int) -> None:
    texts = [text[i : i + width] for i in range(0, len(text), width)]
    stream = fed(SEPARATE, stream_of(*texts, finish_reason="length"), step)
    assert stream.endswith(b"data: [DONE]\n\n")
    message = json.loads(Answer(SEPARATE).whole(whole_of(text), 200))["choices"][0]["message"]
    assert joined(stream) == (message["reasoning"] or "", message["content"], "length")


def test_reasoning_moves_and_the_rest_of_the_answer_stays() -> None:
    body = json.loads(Answer(SEPARATE).whole(whole_of("<think>\na\n</think>\nb"), 200))
    assert body == json.loads(whole_of("b", reasoning="a", reasoning_content="a"))


def test_the_last_chunk_may_hold_text_and_the_end_together() -> None:
    stream = event(delta(content="<think>a</thi")) + event(delta("stop", content="nk>b"))
    assert joined(fed(SEPARATE, stream, 5)) == ("a", "b", "stop")


def test_what_is_held_back_comes_with_the_end() -> None:
    stream = event(delta(content="a <")) + event(delta("length"))
    assert joined(fed(SEPARATE, stream, 5)) == ("", "a <", "length")


def test_choices_are_split_each_for_itself() -> None:
    stream = b"".join(
        event(delta(content=text, index=index))
        for text, index in [("<think>a", 0), ("<thi", 1), ("</think>b", 0), ("s>", 1)]
    )
    stream = fed(SEPARATE, stream, 11)
    assert joined(stream, 0)[:2] == ("a", "b")
    assert joined(stream, 1)[:2] == ("", "<this>")


@pytest.mark.parametrize("rules", [SEPARATE, CALLING])
@pytest.mark.parametrize(
    "stream",
    [
        stream_of("Seven", "."),
        event(usage={"total_tokens": 9}),
        b'data: {"error": {"message": "no"}}\n\n',
        b": keep-alive\n\n",
        b"data: not JSON\n\n",
        b"data: {not JSON\n\n",
        b"event: x\r\ndata: {}\r\n\r\n",
        b'data: {"choices": [5, {"delta": 5}, {"delta": {"content": 5}}]}\n\n',
        b"data: unfinished",
    ],
)
def test_events_that_need_nothing_pass_byte_for_byte(rules: AnswerRules, stream: bytes) -> None:
    for step in (1, 3, 1000):
        assert fed(rules, stream, step) == stream


def test_each_event_comes_as_soon_as_it_is_complete() -> None:
    answer = Answer(CALLING)
    first, second = event(delta(content="a")), event(delta(content="b"))
    assert answer.feed(first[:10]) == b""
    assert answer.feed(first[10:] + second[:5]) == first
    assert answer.feed(second[5:-1]) == b""
    assert answer.feed(second[-1:]) == second


@pytest.mark.parametrize("body", [whole_of("Seven."), whole_of(None, tool_calls=[CALL]), b"[", b""])
def test_a_whole_answer_that_needs_nothing_passes_byte_for_byte(body: bytes) -> None:
    assert Answer(SEPARATE).whole(body, 200) == body


def test_an_answer_with_a_call_ends_as_one() -> None:
    body = json.loads(Answer(CALLING).whole(whole_of("", tool_calls=[CALL]), 200))
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    stream = event(delta(tool_calls=[CALL])) + event(delta("stop"))
    assert joined(fed(CALLING, stream, 9))[2] == "tool_calls"
    together = event(delta("stop", tool_calls=[CALL]))
    assert joined(fed(CALLING, together, 9))[2] == "tool_calls"


@pytest.mark.parametrize("reason", ["length", "tool_calls", "content_filter"])
def test_only_stop_is_put_right(reason: str) -> None:
    body = whole_of("", reason, tool_calls=[CALL])
    assert Answer(SEPARATE).whole(body, 200) == body
    stream = event(delta(tool_calls=[CALL])) + event(delta(reason))
    assert fed(SEPARATE, stream, 9) == stream


def test_without_a_call_stop_is_stop() -> None:
    assert Answer(CALLING).whole(whole_of("No."), 200) == whole_of("No.")
    assert fed(CALLING, stream_of("No."), 9) == stream_of("No.")


def test_ids_of_the_answer_are_the_clients_again() -> None:
    rules = AnswerRules(originals={"abcdefghi": 'call_"1"'})
    body = json.loads(Answer(rules).whole(whole_of(None, tool_calls=[CALL]), 200))
    assert body["choices"][0]["message"]["tool_calls"][0]["id"] == 'call_"1"'
    stream = fed(rules, event(delta(tool_calls=[CALL])), 4)
    assert b'"call_\\"1\\""' in stream and b"abcdefghi" not in stream


def test_what_the_model_says_keeps_its_words() -> None:
    body = whole_of("the call abcdefghi", tool_calls=[CALL | {"id": "zzzzzzzzz"}])
    assert Answer(AnswerRules(originals={"abcdefghi": "call_1"})).whole(body, 200) == body


def test_an_engines_error_names_the_id_that_the_client_knows() -> None:
    rules = AnswerRules(originals={"abcdefghi": "call_1"}, separate_reasoning=True)
    body = b'{"error": {"message": "Unexpected tool call id abcdefghi in abcdefghijkl"}}'
    assert Answer(rules).whole(body, 400) == body.replace(b"abcdefghi in", b"call_1 in")
