"""LangChain's agents over OpenAI's chat and responses, Mistral's chat and Anthropic's messages."""

from typing import Any

from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_mistralai import ChatMistralAI
from langchain_openai import ChatOpenAI

from tests.e2e.clients import questions


def chat(model: str = questions.MODEL, max_tokens: int = 300, **options: Any) -> Any:
    return ChatOpenAI(
        model=model,
        temperature=0,
        base_url=f"{questions.URL}/v1",
        api_key="none",
        max_retries=0,
        max_tokens=max_tokens,
        **options,
    )


def responses(model: str = questions.MODEL, max_tokens: int = 300) -> Any:
    return chat(model, max_tokens, use_responses_api=True)


def mistral(model: str = questions.MODEL, max_tokens: int = 300) -> Any:
    return ChatMistralAI(
        model_name=model,
        temperature=0,
        endpoint=f"{questions.URL}/v1",
        api_key="none",
        max_retries=1,
        max_tokens=max_tokens,
    )


def messages(model: str = questions.MODEL, max_tokens: int = 300) -> Any:
    return ChatAnthropic(
        model_name=model,
        temperature=0,
        base_url=questions.URL,
        api_key="none",
        max_tokens=max_tokens,
        max_retries=0,
    )


APIS = {"chat": chat, "responses": responses, "mistral": mistral, "messages": messages}
TOOLS = [
    tool(questions.my_calculator, parse_docstring=True),
    tool(questions.rewrite, parse_docstring=True),
]


def about_image(text: str, image: str) -> Any:
    return [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": image}}]


EQUATIONS = about_image(questions.EQUATIONS, questions.NOISE)


def asked(question: Any) -> Any:
    return {"messages": [{"role": "user", "content": question}]}


def hello(model: Any) -> Any:
    return model().invoke(questions.HELLO).text


def stream(model: Any) -> Any:
    return [chunk.text for chunk in model().stream(questions.COUNT) if chunk.text]


def tools(model: Any) -> Any:
    return create_agent(model(), TOOLS).invoke(asked(EQUATIONS))["messages"][-1].text


def tools_streamed(model: Any) -> Any:
    events = create_agent(model(), TOOLS).stream(asked(EQUATIONS), stream_mode="messages")
    return [chunk.text for chunk, about in events if about["langgraph_node"] == "model"]


def structured(model: Any) -> Any:
    return model().with_structured_output(questions.Capital).invoke(questions.CAPITAL).model_dump()


def structured_beside_tools(model: Any) -> Any:
    agent = create_agent(model(), TOOLS, response_format=ProviderStrategy(questions.Capital))
    return agent.invoke(asked(questions.CAPITAL))["structured_response"].model_dump()


def structured_by_a_tool(model: Any) -> Any:
    agent = create_agent(model(), [], response_format=ToolStrategy(questions.Capital))
    return agent.invoke(asked(questions.CAPITAL))["structured_response"].model_dump()


def image(model: Any) -> Any:
    return model().invoke(asked(about_image(questions.COLOUR, questions.RED))["messages"]).text


def unknown_model(model: Any) -> Any:
    return model(questions.UNKNOWN_MODEL).invoke(questions.HELLO).text


def refused_parameter(model: Any) -> Any:
    return model(max_tokens=-1).invoke(questions.HELLO).text


STEPS = [
    hello,
    stream,
    tools,
    tools_streamed,
    structured,
    structured_beside_tools,
    structured_by_a_tool,
    image,
    unknown_model,
    refused_parameter,
]
