"""OpenAI's agents, over responses and over chat."""

from typing import Any

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    SQLiteSession,
    function_tool,
)
from openai import AsyncOpenAI

from tests.e2e.clients import questions


def agent_over(model_class: Any) -> Any:
    def agent(model: str = questions.MODEL, temperature: float = 0, **options: Any) -> Agent:
        client = AsyncOpenAI(base_url=f"{questions.URL}/v1", api_key="none", max_retries=0)
        settings = ModelSettings(temperature=temperature, max_tokens=300)
        with_model = model_class(model=model, openai_client=client)
        return Agent(name="tester", model=with_model, model_settings=settings, **options)

    return agent


APIS = {
    "responses": agent_over(OpenAIResponsesModel),
    "chat": agent_over(OpenAIChatCompletionsModel),
}
TOOLS = [function_tool(questions.my_calculator), function_tool(questions.rewrite)]


def about_image(text: str, image: str) -> Any:
    content = [
        {"type": "input_text", "text": text},
        {"type": "input_image", "image_url": image, "detail": "auto"},
    ]
    return [{"role": "user", "content": content}]


EQUATIONS = about_image(questions.EQUATIONS, questions.NOISE)


async def said(agent: Agent, question: Any, **options: Any) -> Any:
    return (await Runner.run(agent, question, **options)).final_output


async def streamed(agent: Agent, question: Any) -> list[str]:
    run = Runner.run_streamed(agent, question)
    return [
        event.data.delta
        async for event in run.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]


async def hello(agent: Any) -> Any:
    return await said(agent(), questions.HELLO)


async def stream(agent: Any) -> Any:
    return await streamed(agent(), questions.COUNT)


async def tools(agent: Any) -> Any:
    return await said(agent(tools=TOOLS), EQUATIONS)


async def tools_streamed(agent: Any) -> Any:
    return await streamed(agent(tools=TOOLS), EQUATIONS)


async def structured_beside_tools(agent: Any) -> Any:
    output = await said(agent(tools=TOOLS, output_type=questions.Capital), questions.CAPITAL)
    return output.model_dump()


async def image(agent: Any) -> Any:
    return await said(agent(), about_image(questions.COLOUR, questions.RED))


async def second_turn(agent: Any) -> Any:
    session = SQLiteSession("conversation")
    one = agent(tools=TOOLS)
    await said(one, EQUATIONS, session=session)
    return bool(await said(one, questions.HELLO, session=session))


async def handoff(agent: Any) -> Any:
    second = agent().clone(name="second")
    first = agent(handoffs=[second])
    first.model_settings.tool_choice = "required"
    return (await Runner.run(first, EQUATIONS)).last_agent.name


async def unknown_model(agent: Any) -> Any:
    return await said(agent(questions.UNKNOWN_MODEL), questions.HELLO)


async def refused_parameter(agent: Any) -> Any:
    return await said(agent(temperature=questions.TOO_HOT), questions.HELLO)


STEPS = [
    hello,
    stream,
    tools,
    tools_streamed,
    structured_beside_tools,
    image,
    second_turn,
    handoff,
    unknown_model,
    refused_parameter,
]
