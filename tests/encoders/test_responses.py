from dataclasses import replace
from typing import Any

import httpx
import pytest
from openai import APIError, OpenAI

from serving.answers.events import (
    Arguments,
    CallBegun,
    CallEnded,
    End,
    Event,
    Reasoning,
    Step,
    Text,
)
from serving.requests.response_tools import ClientTool
from tests.encoders.response_streams import (
    OPTIONS,
    TOOLS,
    call,
    encoder,
    names,
    options,
    parsed,
    steps,
    streamed,
    token,
    whole,
)


def test_a_text() -> None:
    events = streamed(steps(Text("Hel"), Text("lo")))
    assert names(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["delta"] for event in events[4:6]] == ["Hel", "lo"]
    assert events[0]["response"]["status"] == events[1]["response"]["status"] == "in_progress"
    final = events[-1]["response"]
    assert final["status"] == "completed" and final["incomplete_details"] is None
    assert final["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 12,
    }
    (message,) = final["output"]
    assert message["content"][0]["text"] == "Hello"
    assert events[-2]["item"] == message and events[2]["item"]["id"] == message["id"]


def test_a_response_repeats_its_request() -> None:
    response = whole(steps(Text("Hello")))
    assert response["metadata"] == {"a": "b"}
    assert (response["instructions"], response["user"]) == ("Be brief.", "u")
    assert response["tools"] == TOOLS and response["tool_choice"] == "auto"
    assert response["max_output_tokens"] == 9
    assert list(response)[-1] == "usage"  # the router looks for it at the end


def test_a_call_of_a_function() -> None:
    events = streamed(steps(Text("Let me see."), *call("f", '{"a"', ": 1}"), end="tool_calls"))
    assert names(events)[8:] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    item = events[-1]["response"]["output"][1]
    assert item == {
        "id": item["id"],
        "type": "function_call",
        "call_id": "abcdefghi",
        "name": "f",
        "arguments": '{"a": 1}',
        "status": "completed",
    }
    assert item["id"].startswith("fc_") and events[-3]["arguments"] == item["arguments"]
    assert events[-3]["name"] == "f"


def test_a_call_of_a_custom_tool() -> None:
    events = streamed(
        steps(*call("c", '{"inp', 'ut": "a\\ud83d', "\\ude0", '0\\n"', "}"), end="tool_calls")
    )
    assert names(events)[2:] == [
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
        "completed",
    ]
    deltas = [event["delta"] for event in events if event["type"].endswith(".delta")]
    assert deltas == ["a", "😀\n"]
    (item,) = events[-1]["response"]["output"]
    assert (item["type"], item["input"], item["id"][:4]) == ("custom_tool_call", "a😀\n", "ctc_")


@pytest.mark.parametrize(
    ("name", "type", "local"),
    [("ns__f", "function_call", "f"), ("ns__c", "custom_tool_call", "c")],
)
def test_a_call_of_a_namespaces_tool_has_the_clients_name(name: str, type: str, local: str) -> None:
    (item,) = whole(steps(*call(name, "{}"), end="tool_calls"))["output"]
    assert (item["type"], item["name"], item["namespace"]) == (type, local, "ns")


def test_two_calls() -> None:
    events = streamed(steps(*call("f", "{}"), *call("f", "{}", id="bbbbbbbbb"), end="tool_calls"))
    first, second = events[-1]["response"]["output"]
    assert (first["call_id"], second["call_id"]) == ("abcdefghi", "bbbbbbbbb")
    assert first["id"] != second["id"]
    assert [e["output_index"] for e in events if e["type"].endswith("item.added")] == [0, 1]


def test_reasoning_comes_first() -> None:
    events = streamed(steps(Reasoning("Hm"), Reasoning("m."), Text("Yes.")))
    assert names(events)[2:11] == [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
    ]
    thought, message = events[-1]["response"]["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "Hmm."}]
    assert thought["id"].startswith("rs_") and message["id"].startswith("msg_")


def test_reasoning_may_be_left_out() -> None:
    given, made = options(include_reasoning=False), steps(Reasoning("Hmm."), Text("Yes."))
    events = streamed(made, given)
    assert "reasoning_text.delta" not in names(events)
    (item,) = events[-1]["response"]["output"]
    assert item["type"] == "message" and whole(made, given)["output"] == [item]


@pytest.mark.parametrize(
    "events", [[Text("Hel")], [Reasoning("Hm")], call("f", '{"a', ended=False)]
)
def test_an_answer_cut_off_is_incomplete(events: list[Event]) -> None:
    made = steps(*events, end="length")
    *_, done, last = streamed(made)
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["output"] == [done["item"]] == whole(made)["output"]
    assert done["item"]["status"] == "incomplete"


def test_only_the_last_item_is_cut_off() -> None:
    made = steps(
        Text("a"), *call("f", "{}"), *call("c", '{"input": "ab\\', ended=False), end="length"
    )
    items = streamed(made)[-1]["response"]["output"]
    assert [item["status"] for item in items] == ["completed", "completed", "incomplete"]
    assert items[2]["input"] == "ab"


def test_a_complete_call_before_the_limit_stays_complete() -> None:
    made = steps(*call("f", "{}"), end="length")
    response = streamed(made)[-1]["response"]
    assert (response["status"], response["output"][0]["status"]) == ("incomplete", "completed")


def test_a_message_has_the_log_probabilities_of_its_tokens() -> None:
    other = token(b"o")
    made = [
        Step([], [token(b"\xf0\x9f")]),  # held back: only part of a character
        Step([Text("😀")], [token(b"\x98\x80", other)]),
        Step([Text("!"), CallBegun("abcdefghi", "f")], [token(b"!")]),
        Step([Arguments("{}"), CallEnded()], [token(b"{}")]),
        Step([], [token(b"</s>")], end=End("tool_calls")),
    ]
    events = streamed(made)
    deltas = [e["logprobs"] for e in events if e["type"] == "response.output_text.delta"]
    assert [len(logprobs) for logprobs in deltas] == [2, 1]
    content = events[-1]["response"]["output"][0]["content"][0]
    assert content["logprobs"] == deltas[0] + deltas[1]
    assert [logprob["bytes"] for logprob in content["logprobs"]] == [[240, 159], [152, 128], [33]]
    assert content["logprobs"][1]["top_logprobs"] == [
        {"token": "o", "bytes": [111], "logprob": -0.5}
    ]
    assert events[-1]["response"] == whole(made)


def test_no_log_probabilities_are_an_empty_list() -> None:
    events = streamed(steps(Text("a")))
    assert events[4]["logprobs"] == []
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "server_error"), (503, "server_error"), (429, "rate_limit_exceeded")],
)
def test_an_error_ends_the_stream_as_failed(status: int, code: str) -> None:
    writer = encoder()
    stream = writer.begin() + writer.step(0, Step([Text("Hel")]))
    *_, error, failed = parsed(stream + writer.error("The engine is gone.", status))
    assert (error["type"], error["message"], error["code"]) == (
        "error",
        "The engine is gone.",
        code,
    )
    assert error["error"].items() >= {"message": "The engine is gone.", "code": code}.items()
    response = failed["response"]
    assert response["error"] == {"code": code, "message": "The engine is gone."}
    assert (response["status"], response["output"][0]["status"]) == ("failed", "incomplete")


def test_an_error_before_any_token() -> None:
    error, failed = parsed(encoder().error("Too long.", 400))
    assert error["code"] == "invalid_prompt" and failed["response"]["output"] == []


def test_openais_client_puts_a_stream_together() -> None:
    made = steps(
        Reasoning("Hm."), Text("Hel"), Text("lo"), *call("f", '{"a"', ": 1}"), *call("c", "x")
    )
    writer = encoder()
    body = b"".join([writer.begin(), *[writer.step(0, step) for step in made], writer.finish()])
    with client(body).responses.stream(model="m", input="Hello") as stream:
        final = stream.get_final_response()
    assert final.output_text == "Hello"
    kinds = ["reasoning", "message", "function_call", "custom_tool_call"]
    assert [item.type for item in final.output] == kinds
    assert final.usage is not None and final.usage.total_tokens == 12


def test_openais_client_raises_an_error() -> None:
    writer = encoder()
    body = writer.begin() + writer.error("The engine is gone.", 500)
    with pytest.raises(APIError, match=r"The engine is gone\."):
        list(client(body).responses.create(model="m", input="Hello", stream=True))


def client(body: bytes) -> OpenAI:
    """Returns a client whose requests are all answered with that stream."""
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=body))
    http: Any = httpx.Client(transport=transport)  # the SDK's type depends on its version
    return OpenAI(api_key="key", base_url="http://engine/v1", http_client=http)


def test_the_clients_tool_is_found_by_the_models_name() -> None:
    given = replace(OPTIONS, tools={"x": ClientTool("y", custom=True)})
    (item,) = whole(steps(*call("x", '{"input": "z"}')), given)["output"]
    assert (item["name"], item["input"]) == ("y", "z")
