"""Haystack's generators over chat and responses, and its agent."""

import json
from typing import Any

from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage, ImageContent
from haystack.tools import create_tool_from_function
from haystack.utils import Secret

from tests.e2e.clients import questions


def over(generator: Any) -> Any:
    def made(model: str = questions.MODEL, temperature: float = 0, **options: Any) -> Any:
        kwargs = options.pop("generation_kwargs", {})
        return generator(
            model=model,
            api_base_url=f"{questions.URL}/v1",
            api_key=Secret.from_token("none"),
            max_retries=0,
            generation_kwargs={"temperature": temperature, **kwargs},
            **options,
        )

    return made


APIS = {
    "chat": over(OpenAIChatGenerator),
    "responses": over(OpenAIResponsesChatGenerator),
}
TOOLS = [
    create_tool_from_function(questions.my_calculator),
    create_tool_from_function(questions.rewrite),
]


def about_image(text: str, image: str) -> Any:
    return [text, ImageContent(base64_image=image.split(",")[1], mime_type="image/png")]


EQUATIONS = about_image(questions.EQUATIONS, questions.NOISE)


def said(generator: Any, *content: Any) -> str:
    return generator.run([ChatMessage.from_user(content_parts=list(content))])["replies"][0].text


def hello(generator: Any) -> Any:
    return said(generator(), questions.HELLO)


def stream(generator: Any) -> Any:
    pieces: list[str] = []
    said(generator(streaming_callback=lambda c: pieces.append(c.content)), questions.COUNT)
    return pieces


def tools(generator: Any) -> Any:
    agent = Agent(chat_generator=generator(), tools=TOOLS)
    return agent.run([ChatMessage.from_user(content_parts=EQUATIONS)])["last_message"].text


def tools_streamed(generator: Any) -> Any:
    pieces: list[str] = []
    Agent(chat_generator=generator(), tools=TOOLS).run(
        [ChatMessage.from_user(content_parts=EQUATIONS)],
        streaming_callback=lambda c: pieces.append(c.content if not c.tool_call_result else ""),
    )
    return pieces


def structured_beside_tools(generator: Any) -> Any:
    form = "text_format" if generator is APIS["responses"] else "response_format"
    asked = generator(generation_kwargs={form: questions.Capital}, tools=TOOLS, tools_strict=True)
    return json.loads(said(asked, questions.CAPITAL))


def image(generator: Any) -> Any:
    return said(generator(), *about_image(questions.COLOUR, questions.RED))


def unknown_model(generator: Any) -> Any:
    return said(generator(questions.UNKNOWN_MODEL), questions.HELLO)


def refused_parameter(generator: Any) -> Any:
    return said(generator(temperature=questions.TOO_HOT), questions.HELLO)


STEPS = [
    hello,
    stream,
    tools,
    tools_streamed,
    structured_beside_tools,
    image,
    unknown_model,
    refused_parameter,
]
