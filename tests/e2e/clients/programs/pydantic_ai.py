"""Pydantic AI's agents over OpenAI's two APIs, Anthropic's messages and Mistral's chat."""

import base64
from typing import Any

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.mistral import MistralModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.mistral import MistralProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tests.e2e.clients import questions


def openai() -> Any:
    client = AsyncOpenAI(base_url=f"{questions.URL}/v1", api_key="none", max_retries=0)
    return OpenAIProvider(openai_client=client)


def chat(model: str = questions.MODEL) -> Any:
    return OpenAIChatModel(model, provider=openai())


def responses(model: str = questions.MODEL) -> Any:
    return OpenAIResponsesModel(model, provider=openai())


def messages(model: str = questions.MODEL) -> Any:
    client = AsyncAnthropic(base_url=questions.URL, api_key="none", max_retries=0)
    return AnthropicModel(model, provider=AnthropicProvider(anthropic_client=client))


def mistral(model: str = questions.MODEL) -> Any:
    return MistralModel(model, provider=MistralProvider(base_url=questions.URL, api_key="none"))


APIS = {"chat": chat, "responses": responses, "messages": messages, "mistral": mistral}
TOOLS = [questions.my_calculator, questions.rewrite]
COLD = {"temperature": 0.0, "max_tokens": 300}


def about_image(text: str, image: str) -> Any:
    data = base64.b64decode(image.split(",")[1])
    return [text, BinaryContent(data, media_type="image/png")]


EQUATIONS = about_image(questions.EQUATIONS, questions.NOISE)


async def said(model: Any, question: Any, settings: Any = None, **options: Any) -> Any:
    agent = Agent(model, model_settings=settings or COLD, retries=0, **options)
    return (await agent.run(question)).output


async def streamed(model: Any, question: Any, **options: Any) -> list[str]:
    agent = Agent(model, model_settings=COLD, retries=0, **options)
    async with agent.run_stream(question) as result:
        return [piece async for piece in result.stream_text(delta=True, debounce_by=None)]


async def hello(model: Any) -> Any:
    return await said(model(), questions.HELLO)


async def stream(model: Any) -> Any:
    return await streamed(model(), questions.COUNT)


async def tools(model: Any) -> Any:
    return await said(model(), EQUATIONS, tools=TOOLS)


async def tools_streamed(model: Any) -> Any:
    return await streamed(model(), EQUATIONS, tools=TOOLS)


async def structured_beside_tools(model: Any) -> Any:
    output = NativeOutput(questions.Capital)
    answer = await said(model(), questions.CAPITAL, tools=TOOLS, output_type=output)
    return answer.model_dump()


async def structured_by_a_tool(model: Any) -> Any:
    answer = await said(model(), questions.CAPITAL, output_type=questions.Capital)
    return answer.model_dump()


async def image(model: Any) -> Any:
    return await said(model(), about_image(questions.COLOUR, questions.RED))


async def second_turn(model: Any) -> Any:
    agent = Agent(model(), model_settings=COLD, tools=TOOLS)
    first = await agent.run(EQUATIONS)
    again = await agent.run(questions.HELLO, message_history=first.all_messages())
    return bool(again.output)


async def unknown_model(model: Any) -> Any:
    return await said(model(questions.UNKNOWN_MODEL), questions.HELLO)


async def refused_parameter(model: Any) -> Any:
    return await said(model(), questions.HELLO, {"temperature": questions.TOO_HOT})


STEPS = [
    hello,
    stream,
    tools,
    tools_streamed,
    structured_beside_tools,
    structured_by_a_tool,
    image,
    second_turn,
    unknown_model,
    refused_parameter,
]

# It knows of no schemas there.
CANNOT = {"messages": [structured_beside_tools], "mistral": [structured_beside_tools]}
