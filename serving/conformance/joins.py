"""Streams of text completions, responses and Anthropic's messages, joined as their clients do.

Each function fails the check on an event that a client could not follow, and returns what clients
see of the answer; `seen_*` return the same of an unstreamed answer.
"""

import json
from collections.abc import Sequence
from typing import Any

from .answer import check_usage, text_of
from .events import DONE, Event
from .expect import expect

View = dict[str, Any]


def seen_completion(completion: Any) -> View:
    """What a client sees of a text completion."""
    choices = [
        {
            "text": text_of(choice["text"], "text"),
            "finish_reason": choice["finish_reason"],
            "tokens": (choice.get("logprobs") or {}).get("tokens"),
        }
        for choice in completion["choices"]
    ]
    check_usage(completion["usage"])
    return {"choices": choices, "completion_tokens": completion["usage"]["completion_tokens"]}


def joined_completion(received: Sequence[Event]) -> View:
    """Joins the stream of a text completion that was asked for its usage."""
    expect(received and received[-1].data == DONE, f"the stream does not end with {DONE}")
    choices: dict[int, View] = {}
    usage: Any = None
    for event in received[:-1]:
        chunk = event.json()
        expect(chunk.get("object") == "text_completion", f"object {chunk.get('object')!r}")
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            one = choices.setdefault(
                choice["index"], {"text": "", "finish_reason": None, "tokens": None}
            )
            expect(one["finish_reason"] is None, "a choice goes on after its finish_reason")
            one["text"] += text_of(choice["text"], "text")
            one["finish_reason"] = choice.get("finish_reason")
            if choice.get("logprobs"):
                one["tokens"] = (one["tokens"] or []) + choice["logprobs"]["tokens"]
    check_usage(usage or {})
    return {
        "choices": [choices[index] for index in sorted(choices)],
        "completion_tokens": usage["completion_tokens"],
    }


def seen_response(response: Any) -> View:
    """What a client sees of a response: its items without their ids."""
    usage = response["usage"]
    total = usage["input_tokens"] + usage["output_tokens"]
    expect(total == usage["total_tokens"], f"token counts do not add up: {usage}")
    return {
        "status": response["status"],
        "incomplete": response.get("incomplete_details"),
        "items": [_seen_item(item) for item in response["output"]],
        "output_tokens": usage["output_tokens"],
    }


def _seen_item(item: Any) -> View:
    expect(item.get("id"), f"an item without id: {item}")
    if item["type"] == "message":
        return {"type": "message", "text": "".join(part["text"] for part in item["content"])}
    if item["type"] == "function_call":
        expect(item.get("call_id"), f"a call without call_id: {item}")
        return {"type": "function_call", "name": item["name"], "text": item["arguments"]}
    return {"type": item["type"], "text": item.get("input", "")}


_DELTAS = {
    "response.output_text.delta",
    "response.function_call_arguments.delta",
    "response.custom_tool_call_input.delta",
}
_ENDS = {"response.completed", "response.incomplete"}


def joined_response(received: Sequence[Event]) -> View:
    """Joins the stream of a response, whose last event must agree with the deltas before it."""
    events = [event.json() for event in received if event.data != DONE]
    numbers = [event.get("sequence_number") for event in events]
    expect(numbers == list(range(len(events))), f"sequence numbers {numbers[:5]}…")
    expect(events[0]["type"] == "response.created", f"first {events[0]['type']}")
    expect(events[-1]["type"] in _ENDS, f"last {events[-1]['type']}")
    texts: dict[int, str] = {}
    for event in events:
        if event["type"] == "response.output_item.added":
            texts[event["output_index"]] = ""
        elif event["type"] in _DELTAS:
            expect(event["output_index"] in texts, "a delta of an item that was not added")
            texts[event["output_index"]] += event["delta"]
    view = seen_response(events[-1]["response"])
    for index, item in enumerate(view["items"]):
        if item["type"] != "reasoning":
            text = texts.get(index)
            expect(text == item["text"], f"deltas {text!r}, item {item['text']!r}")
    return view


def seen_message(message: Any) -> View:
    """What a client sees of a message of Anthropic's API: its blocks without their ids."""
    return {
        "blocks": [
            {key: value for key, value in block.items() if key in ("type", "text", "name", "input")}
            for block in message["content"]
        ],
        "stop_reason": message["stop_reason"],
        "stop_sequence": message.get("stop_sequence"),
        "output_tokens": message["usage"]["output_tokens"],
    }


def joined_message(received: Sequence[Event]) -> View:
    """Joins the stream of a message of Anthropic's API."""
    content: list[dict[str, Any]] = []
    texts: list[str] = []
    message: dict[str, Any] = {}
    opened = False
    for event in received:
        data = event.json()
        expect(event.name == data["type"], f"an event {event.name!r} of type {data['type']!r}")
        match data["type"]:
            case "message_start":
                message = data["message"]
            case "content_block_start":
                expect(not opened and data["index"] == len(content), f"a block's start: {data}")
                opened = True
                content.append(data["content_block"])
                texts.append("")
            case "content_block_delta":
                expect(opened and data["index"] == len(content) - 1, f"a delta of no block: {data}")
                delta = data["delta"]
                texts[-1] += text_of(delta.get("text", delta.get("partial_json")), "a delta")
            case "content_block_stop":
                expect(opened, f"a second end of a block: {data}")
                opened = False
            case "message_delta":
                message |= data["delta"]
                message["usage"] = message["usage"] | data["usage"]
    expect(received[-1].name == "message_stop" and not opened, f"last {received[-1].name!r}")
    for block, text in zip(content, texts, strict=True):
        block |= {"text": text} if block["type"] == "text" else {"input": json.loads(text or "{}")}
    return seen_message(message | {"content": content})
