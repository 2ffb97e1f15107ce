"""The whole service through OpenAI's own client."""

import asyncio
import json
import re
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall

from serving import model_cards
from tests.e2e.images import solid
from tests.e2e.service import MODEL, Service

PARALLEL_STREAMS = 50


def ask(client: openai.OpenAI, messages: list[Any], **options: Any) -> Any:
    return client.chat.completions.create(
        model=MODEL, messages=messages, temperature=0, **options
    ).choices[0]


def joined(client: openai.OpenAI, messages: list[Any], **options: Any) -> tuple[str, str]:
    """Text and finish reason of a streamed answer."""
    text, finish_reason = "", ""
    for chunk in client.chat.completions.create(
        model=MODEL, messages=messages, temperature=0, stream=True, **options
    ):
        choice = chunk.choices[0]
        text += choice.delta.content or ""
        finish_reason = choice.finish_reason or finish_reason
    return text, finish_reason


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_the_model_is_listed_with_its_context_length(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == MODEL
    assert model.model_extra is not None and model.model_extra["max_model_len"] == 131072
    assert client.models.retrieve("tiny").id == MODEL


def test_greeting(client: openai.OpenAI) -> None:
    choice = ask(client, user("Hello"))
    assert choice.finish_reason == "stop"
    assert choice.message.content and choice.message.tool_calls in (None, [])


@pytest.mark.parametrize("color", ["red", "green", "blue", "yellow"])
def test_an_image_reaches_the_model(client: openai.OpenAI, color: str) -> None:
    message = model_cards.image_message("What color is this image?", solid(color))
    assert color in (ask(client, [message]).message.content or "")


def test_json_mode_gives_json(client: openai.OpenAI) -> None:
    choice = ask(
        client,
        user("Give me the capital of France as JSON."),
        response_format={"type": "json_object"},
    )
    assert json.loads(choice.message.content) == {"country": "France", "capital": "Paris"}


def test_json_schema_gives_json_of_that_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"country": {"type": "string"}, "capital": {"type": "string"}},
        "required": ["country", "capital"],
        "additionalProperties": False,
    }
    choice = ask(
        client,
        user("Give me the capital of France as JSON."),
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "capital", "schema": schema, "strict": True},
        },
    )
    assert json.loads(choice.message.content) == {"country": "France", "capital": "Paris"}


def test_streamed_tool_call_has_id_and_name_first_and_arguments_in_pieces(
    client: openai.OpenAI,
) -> None:
    messages: list[Any] = model_cards.weather_messages(None)
    tools: list[Any] = model_cards.WEATHER_TOOLS
    stream = client.chat.completions.create(
        model=MODEL,
        messages=messages,
        tools=tools,
        temperature=0,
        stream=True,
    )
    deltas: list[ChoiceDeltaToolCall] = []
    finish_reason = None
    for chunk in stream:
        deltas += chunk.choices[0].delta.tool_calls or []
        finish_reason = chunk.choices[0].finish_reason or finish_reason
    first = deltas[0]
    assert first.index == 0 and first.id is not None and re.fullmatch("[A-Za-z0-9]{9}", first.id)
    assert first.function is not None and first.function.name == "get_current_weather"
    arguments = "".join(d.function.arguments or "" for d in deltas if d.function)
    assert json.loads(arguments) == {"city": "Dallas", "state": "TX", "unit": "fahrenheit"}
    assert finish_reason == "tool_calls"


def test_streamed_text_equals_the_unstreamed(client: openai.OpenAI) -> None:
    for text in ("Hello", "Count from 1 to 50.", "Say hello in Japanese, Arabic and emoji."):
        choice = ask(client, user(text))
        assert joined(client, user(text)) == (choice.message.content, choice.finish_reason)


def test_usage_is_in_the_last_event_if_asked(client: openai.OpenAI) -> None:
    *_, last = client.chat.completions.create(
        model=MODEL,
        messages=user("Hello"),
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert last.usage is not None and last.usage.completion_tokens > 0


def test_a_stream_tells_the_prompts_logprobs_and_an_echo_its_offsets(
    client: openai.OpenAI,
) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 4, "stream": True}
    asked |= {"extra_body": {"prompt_logprobs": 0}, "stream_options": {"include_usage": True}}
    for stream in (
        client.chat.completions.create(messages=user("Hello"), **asked),
        client.completions.create(prompt="Hello", **asked),
    ):
        chunks = [chunk.model_dump() for chunk in stream]
        (told,) = [
            known
            for chunk in chunks
            for holder in (chunk, *chunk["choices"])
            if (known := holder.get("prompt_logprobs"))
        ]
        assert len(told) == chunks[-1]["usage"]["prompt_tokens"]
        assert told[0] is None and all(told[1:])
    echo = client.completions.create(
        model=MODEL, prompt="Hé 😀!", echo=True, logprobs=0, max_tokens=4
    ).choices[0]
    assert echo.logprobs is not None
    places = list(zip(echo.logprobs.tokens or (), echo.logprobs.text_offset or (), strict=True))
    assert places[:2] == [("<s>", 0), (places[1][0], 0)]
    for token, offset in places[1:]:
        if "\ufffd" not in token and token != "</s>":
            assert echo.text.startswith(token, offset)


def test_a_loop_ends_at_max_tokens(client: openai.OpenAI) -> None:
    choice = ask(client, user("Repeat the word hello forever."), max_tokens=100)
    assert choice.finish_reason == "length"
    assert choice.message.content.split()[-2:-1] == ["hello"]


def test_completions_responses_messages_and_tokens(
    client: openai.OpenAI, http: httpx.Client
) -> None:
    completion = client.completions.create(model="tiny", prompt="Hello", max_tokens=4)
    assert completion.usage is not None and completion.usage.completion_tokens <= 4
    response = client.responses.create(model="tiny", input="Hello", temperature=0)
    assert response.output_text == ask(client, user("Hello")).message.content
    message = http.post(
        "/v1/messages", json={"model": "tiny", "max_tokens": 64, "messages": user("Hello")}
    ).json()
    assert message["type"] == "message" and message["content"][0]["text"]
    tokens = http.post("/tokenize", json={"model": "tiny", "prompt": "Hello"}).json()["tokens"]
    text = http.post("/detokenize", json={"model": "tiny", "tokens": tokens}).json()["prompt"]
    assert text.endswith("Hello")


def test_a_response_in_the_background_is_streamed_in_two_parts(client: openai.OpenAI) -> None:
    asked: Any = {
        "model": "tiny",
        "input": "Repeat the word hello forever.",
        "temperature": 0,
        "max_output_tokens": 100,
    }
    events = []
    stream: Any = client.responses.create(**asked, background=True, stream=True)
    for event in stream:
        events.append(event)
        if event.type == "response.output_text.delta":
            break
    stream.close()
    response_id, last = events[0].response.id, events[-1].sequence_number
    events += client.responses.retrieve(response_id, stream=True, starting_after=last)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    response = events[-1].response
    assert (response.id, response.status) == (response_id, "incomplete")
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == response.output_text
    assert response.output_text == client.responses.create(**asked).output_text
    assert client.responses.retrieve(response_id) == response


def test_errors_are_the_clients_own_exceptions(client: openai.OpenAI, service: Service) -> None:
    with pytest.raises(openai.NotFoundError, match=MODEL):
        client.chat.completions.create(model="gpt-4", messages=user("Hello"))
    with pytest.raises(openai.BadRequestError):
        ask(client, user("Hello"), max_tokens=-1)
    eleven = model_cards.image_message("What color is this image?", *[solid("red")] * 11)
    with pytest.raises(openai.BadRequestError, match="10 image"):
        ask(client, [eleven])


def test_the_same_request_id_twice_at_once(service: Service) -> None:
    """An id is the client's business: two requests may share one."""

    async def both() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as http:
            body = {"model": "tiny", "messages": user("Count from 1 to 20."), "temperature": 0}
            post = [
                http.post("/v1/chat/completions", json=body, headers={"x-request-id": "same"})
                for _ in range(4)
            ]
            return await asyncio.gather(*post)

    responses = asyncio.run(both())
    assert [r.status_code for r in responses] == [200] * 4
    assert {r.headers["x-request-id"] for r in responses} == {"same"}
    assert len({r.json()["choices"][0]["message"]["content"] for r in responses}) == 1


def test_many_streams_at_once_equal_each_alone(client: openai.OpenAI, service: Service) -> None:
    prompts = [
        "Hello",
        "Count from 1 to 50.",
        "Give me the capital of Italy as JSON.",
        "Say hello in Japanese, Arabic and emoji.",
        "Count from 1 to 20.",
    ]
    alone = {text: joined(client, user(text)) for text in prompts}

    async def together() -> list[tuple[str, str]]:
        async with openai.AsyncOpenAI(
            api_key="EMPTY", base_url=f"{service.url}/v1", max_retries=0, timeout=300
        ) as client:

            async def one(text: str) -> tuple[str, str]:
                answer, finish_reason = "", ""
                async for chunk in await client.chat.completions.create(
                    model=MODEL, messages=user(text), temperature=0, stream=True
                ):
                    answer += chunk.choices[0].delta.content or ""
                    finish_reason = chunk.choices[0].finish_reason or finish_reason
                return answer, finish_reason

            return await asyncio.gather(
                *(one(prompts[i % len(prompts)]) for i in range(PARALLEL_STREAMS))
            )

    answers = asyncio.run(together())
    assert answers == [alone[prompts[i % len(prompts)]] for i in range(PARALLEL_STREAMS)]
