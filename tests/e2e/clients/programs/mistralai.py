"""Mistral's own client."""

import json
from typing import Any

from mistralai.client import Mistral

from serving import model_cards
from tests.e2e.clients import questions


def client() -> Any:
    return Mistral(api_key="none", server_url=questions.URL)


APIS = {"mistral": client}
TOOLS = model_cards.CALCULATOR_TOOLS


def user(text: Any) -> Any:
    return {"role": "user", "content": text}


def about_image(text: str, image: str) -> Any:
    return user([{"type": "text", "text": text}, {"type": "image_url", "image_url": image}])


EQUATIONS = about_image(questions.EQUATIONS, questions.NOISE)


def results(calls: list[Any]) -> list[Any]:
    """Tool messages for calls, each of which is run."""
    messages = []
    for call in calls:
        arguments = call.function.arguments
        result = questions.my_calculator(**json.loads(arguments))
        about = {"tool_call_id": call.id, "name": call.function.name}
        messages.append({"role": "tool", "content": result, **about})
    return messages


def request(*messages: Any, **options: Any) -> dict[str, Any]:
    return {"model": questions.MODEL, "temperature": 0, "messages": list(messages), **options}


def said(client: Any, *messages: Any, **options: Any) -> Any:
    return client().chat.complete(**request(*messages, **options)).choices[0].message


def streamed(client: Any, *messages: Any, **options: Any) -> Any:
    for event in client().chat.stream(**request(*messages, **options)):
        yield event.data.choices[0].delta


def models(client: Any) -> Any:
    model = client().models.retrieve(model_id=questions.MODEL)
    listed = [card.id for card in client().models.list().data]
    return [model.id in listed, model.capabilities.vision, model.max_context_length > 0]


def usage_of_a_stream(client: Any) -> Any:
    *_, last = client().chat.stream(**request(user(questions.HELLO)))
    return last.data.usage.completion_tokens > 0


def hello(client: Any) -> Any:
    return said(client, user(questions.HELLO)).content


def stream(client: Any) -> Any:
    return [delta.content or "" for delta in streamed(client, user(questions.COUNT))]


def tools(client: Any) -> Any:
    message = said(client, EQUATIONS, tools=TOOLS, parallel_tool_calls=True)
    return said(client, EQUATIONS, message, *results(message.tool_calls), tools=TOOLS).content


def tools_streamed(client: Any) -> Any:
    deltas = streamed(client, EQUATIONS, tools=TOOLS, tool_choice="any")
    calls = [call for delta in deltas for call in delta.tool_calls or []]
    message = {"role": "assistant", "content": "", "tool_calls": calls}
    again = streamed(client, EQUATIONS, message, *results(calls), tools=TOOLS)
    return [delta.content or "" for delta in again]


def structured_beside_tools(client: Any) -> Any:
    asked = request(user(questions.CAPITAL), tools=TOOLS)
    answer = client().chat.parse(response_format=questions.Capital, **asked)
    return answer.choices[0].message.parsed.model_dump()


def image(client: Any) -> Any:
    return said(client, about_image(questions.COLOUR, questions.RED)).content


def prefix(client: Any) -> Any:
    begun = {"role": "assistant", "content": "1, 2, 3", "prefix": True}
    return said(client, user(questions.COUNT), begun).content


def unknown_model(client: Any) -> Any:
    return said(client, user(questions.HELLO), model=questions.UNKNOWN_MODEL).content


def refused_parameter(client: Any) -> Any:
    return said(client, user(questions.HELLO), temperature=questions.TOO_HOT).content


STEPS = [
    models,
    hello,
    stream,
    usage_of_a_stream,
    tools,
    tools_streamed,
    structured_beside_tools,
    image,
    prefix,
    unknown_model,
    refused_parameter,
]
