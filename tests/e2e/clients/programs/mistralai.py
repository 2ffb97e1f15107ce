"""Mistral's own client."""

import json
from typing import Any

from mistralai.client import Mistral

from serving import model_cards
from tests.e2e.clients import questions


def chat(model: str = questions.MODEL, temperature: float = 0) -> Any:
    client = Mistral(api_key="none", server_url=questions.URL)

    def options(messages: list[Any], more: dict[str, Any]) -> dict[str, Any]:
        return {"model": model, "temperature": temperature, "messages": messages} | more

    def complete(messages: list[Any], **more: Any) -> Any:
        return client.chat.complete(**options(messages, more)).choices[0].message

    complete.stream = lambda messages, **more: client.chat.stream(**options(messages, more))
    complete.parse = lambda messages, **more: client.chat.parse(**options(messages, more))
    return complete


APIS = {"mistral": chat}
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


def hello(chat: Any) -> Any:
    return chat()([user(questions.HELLO)]).content


def stream(chat: Any) -> Any:
    events = chat().stream([user(questions.COUNT)])
    return [event.data.choices[0].delta.content or "" for event in events]


def tools(chat: Any) -> Any:
    asked = EQUATIONS
    message = chat()([asked], tools=TOOLS, parallel_tool_calls=True)
    return chat()([asked, message, *results(message.tool_calls)], tools=TOOLS).content


def tools_streamed(chat: Any) -> Any:
    asked = EQUATIONS
    calls: list[Any] = []
    for event in chat().stream([asked], tools=TOOLS, tool_choice="any"):
        for call in event.data.choices[0].delta.tool_calls or []:
            if call.index == len(calls):
                calls.append(call)
            else:
                calls[call.index].function.arguments += call.function.arguments
    message = {"role": "assistant", "content": "", "tool_calls": calls}
    events = chat().stream([asked, message, *results(calls)], tools=TOOLS)
    return [event.data.choices[0].delta.content or "" for event in events]


def structured_beside_tools(chat: Any) -> Any:
    answer = chat().parse([user(questions.CAPITAL)], response_format=questions.Capital, tools=TOOLS)
    return answer.choices[0].message.parsed.model_dump()


def image(chat: Any) -> Any:
    return chat()([about_image(questions.COLOUR, questions.RED)]).content


def prefix(chat: Any) -> Any:
    begun = {"role": "assistant", "content": "1, 2, 3", "prefix": True}
    return chat()([user(questions.COUNT), begun]).content


def unknown_model(chat: Any) -> Any:
    return chat(questions.UNKNOWN_MODEL)([user(questions.HELLO)])


def refused_parameter(chat: Any) -> Any:
    return chat(temperature=questions.TOO_HOT)([user(questions.HELLO)])


STEPS = [
    hello,
    stream,
    tools,
    tools_streamed,
    structured_beside_tools,
    image,
    prefix,
    unknown_model,
    refused_parameter,
]
