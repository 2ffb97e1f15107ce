"""Every API with every form of tool choice and of output: each answer has text or a call, obeys
what was asked for, and is the same streamed."""

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import anthropic
import jsonschema  # type: ignore[import-untyped]
import openai
import pytest

from serving import model_cards as doc
from tests.e2e.service import MODEL, Service

CAPITAL = "🎉東京 👩‍👩‍👧 ½"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"country": {"type": "string", "maxLength": 20}, "capital": {"type": "string"}},
    "required": ["country", "capital"],
    "additionalProperties": False,
}
FUNCTION = doc.WEATHER_TOOL["function"]
NAME = FUNCTION["name"]
MAX_TOKENS = 200
PROMPTS = [doc.WEATHER_PROMPT, "Give me the capital of France as JSON.", "Hello"]
CHOICES = ["auto", "required", "named", "none", "no tools"]
FORMS = ["text", "schema"]


@dataclass
class Answered:
    """What an answer says, in whichever API."""

    text: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    end: str | None = None


def chat(url: str, prompt: str, choice: str, form: str, streamed: bool) -> Answered:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    options: dict[str, Any] = {}
    if choice != "no tools":
        named = {"type": "function", "function": {"name": NAME}}
        options["tools"] = [doc.WEATHER_TOOL]
        options["tool_choice"] = named if choice == "named" else choice
    if form == "schema":
        schema = {"name": "c", "strict": True, "schema": SCHEMA}
        options["response_format"] = {"type": "json_schema", "json_schema": schema}
    options |= {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}
    options |= {"temperature": 0, "max_tokens": MAX_TOKENS}
    if not streamed:
        (whole,) = client.chat.completions.create(**options).choices
        calls = whole.message.tool_calls or []
        named_calls = [(call.function.name, call.function.arguments) for call in calls]
        return Answered(whole.message.content or "", named_calls, whole.finish_reason)
    answer, pieces = Answered(), dict[int, list[str]]()
    for event in client.chat.completions.create(stream=True, **options):
        for delta in event.choices:
            answer.text += delta.delta.content or ""
            answer.end = delta.finish_reason or answer.end
            for call in delta.delta.tool_calls or []:
                name, arguments = pieces.setdefault(call.index, ["", ""])
                assert call.function is not None
                name += call.function.name or ""
                pieces[call.index] = [name, arguments + (call.function.arguments or "")]
    answer.calls = [(name, arguments) for name, arguments in pieces.values()]
    return answer


def responses(url: str, prompt: str, choice: str, form: str, streamed: bool) -> Answered:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    options: dict[str, Any] = {}
    if choice != "no tools":
        options["tools"] = [{"type": "function", **FUNCTION}]
        options["tool_choice"] = {"type": "function", "name": NAME} if choice == "named" else choice
    if form == "schema":
        schema = {"type": "json_schema", "name": "c", "strict": True, "schema": SCHEMA}
        options["text"] = {"format": schema}
    options |= {"model": MODEL, "input": prompt, "temperature": 0, "max_output_tokens": MAX_TOKENS}
    if not streamed:
        whole = client.responses.create(**options)
        if form == "schema":
            assert whole.text is not None and whole.text.format is not None
            assert whole.text.format.type == "json_schema"
        calls = [(one.name, one.arguments) for one in whole.output if one.type == "function_call"]
        return Answered(whole.output_text, calls, whole.status)
    answer = Answered()
    for event in client.responses.create(stream=True, **options):
        if event.type == "response.output_text.delta":
            answer.text += event.delta
        elif event.type == "response.output_item.done" and event.item.type == "function_call":
            answer.calls.append((event.item.name, event.item.arguments))
        elif event.type in ("response.completed", "response.incomplete"):
            answer.end = event.response.status
            assert answer.text == event.response.output_text
    return answer


def messages(url: str, prompt: str, choice: str, form: str, streamed: bool) -> Answered:
    client = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
    options: dict[str, Any] = {}
    if choice != "no tools":
        tool = {"name": NAME, "input_schema": FUNCTION["parameters"]}
        kinds = {"auto": "auto", "required": "any", "named": "tool", "none": "none"}
        named = {"name": NAME} if choice == "named" else {}
        options |= {"tools": [tool], "tool_choice": {"type": kinds[choice], **named}}
    more: dict[str, Any] = {"temperature": 0}  # not in this SDK's signature
    if form == "schema":
        more["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    options |= {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}
    options |= {"max_tokens": MAX_TOKENS, "extra_body": more}
    if streamed:
        with client.messages.stream(**options) as stream:
            whole = stream.get_final_message()
    else:
        whole = client.messages.create(**options)
    text = "".join(block.text for block in whole.content if block.type == "text")
    calls = [
        (block.name, json.dumps(block.input)) for block in whole.content if block.type == "tool_use"
    ]
    return Answered(text, calls, whole.stop_reason)


APIS = {"chat": chat, "responses": responses, "messages": messages}


@pytest.mark.parametrize(("api", "choice"), list(itertools.product(APIS, CHOICES)))
def test_an_answer_is_what_was_asked_for(service: Service, api: str, choice: str) -> None:
    for form, prompt in itertools.product(FORMS, PROMPTS):
        whole, streamed = (
            APIS[api](service.url, prompt, choice, form, stream) for stream in (False, True)
        )
        case = f"{form}, {prompt!r}: {whole}, streamed {streamed}"
        assert whole == streamed, case
        assert whole.text or whole.calls, case
        if choice in ("required", "named"):
            assert whole.calls and not whole.text, case
        if choice in ("none", "no tools"):
            assert not whole.calls, case
        cut = whole.end in ("length", "incomplete", "max_tokens")
        for name, arguments in whole.calls:
            assert name == NAME, case
            assert cut or isinstance(json.loads(arguments), dict), case
        if form == "schema" and whole.text and not cut:
            jsonschema.validate(json.loads(whole.text), SCHEMA)


@pytest.mark.parametrize("choice", ["auto", "no tools"])
@pytest.mark.parametrize("api", APIS)
def test_characters_of_several_tokens_come_through(
    service: Service, api: str, choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCHEMA["properties"], "capital", {"type": "string", "enum": [CAPITAL]})
    for streamed in (False, True):
        prompt = "Give me the capital of France as JSON."
        answer = APIS[api](service.url, prompt, choice, "schema", streamed)
        assert json.loads(answer.text)["capital"] == CAPITAL


@pytest.mark.parametrize("api", APIS)
def test_a_truncated_call_ends_as_truncated(
    service: Service, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.MAX_TOKENS", 12)
    for streamed in (False, True):
        answer = APIS[api](service.url, doc.WEATHER_PROMPT, "required", "text", streamed)
        assert answer.end in ("length", "incomplete", "max_tokens")
