"""LlamaIndex's client for servers like OpenAI's, and its agent."""

from typing import Any

from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.llms.openai_like import OpenAILike

from tests.e2e.clients import questions


def chat(model: str = questions.MODEL, **options: Any) -> Any:
    return OpenAILike(
        model=model,
        temperature=0,
        api_base=f"{questions.URL}/v1",
        api_key="none",
        max_retries=0,
        max_tokens=300,
        is_chat_model=True,
        is_function_calling_model=True,
        **options,
    )


APIS = {"chat": chat}
TOOLS = [questions.my_calculator, questions.rewrite]


def about_image(text: str, image: str) -> Any:
    return ChatMessage(role="user", blocks=[TextBlock(text=text), ImageBlock(url=image)])


EQUATIONS = about_image(questions.EQUATIONS, questions.NOISE)


def hello(llm: Any) -> Any:
    return llm().chat([ChatMessage(questions.HELLO)]).message.content


def stream(llm: Any) -> Any:
    return [chunk.delta for chunk in llm().stream_chat([ChatMessage(questions.COUNT)])]


async def tools(llm: Any) -> Any:
    answer = await FunctionAgent(tools=TOOLS, llm=llm(), streaming=False).run(EQUATIONS)
    return answer.response.content


async def tools_streamed(llm: Any) -> Any:
    run = FunctionAgent(tools=TOOLS, llm=llm()).run(EQUATIONS)
    pieces = [e.delta async for e in run.stream_events() if isinstance(e, AgentStream)]
    await run
    return pieces


def structured(llm: Any) -> Any:
    model = llm(should_use_structured_outputs=True).as_structured_llm(questions.Capital)
    return model.chat([ChatMessage(questions.CAPITAL)]).raw.model_dump()


def structured_by_a_tool(llm: Any) -> Any:
    model = llm().as_structured_llm(questions.Capital)
    return model.chat([ChatMessage(questions.CAPITAL)]).raw.model_dump()


def image(llm: Any) -> Any:
    return llm().chat([about_image(questions.COLOUR, questions.RED)]).message.content


def unknown_model(llm: Any) -> Any:
    return hello(lambda: llm(questions.UNKNOWN_MODEL))


def refused_parameter(llm: Any) -> Any:
    return hello(lambda: llm(additional_kwargs={"top_p": 9}))


STEPS = [
    hello,
    stream,
    tools,
    tools_streamed,
    structured,
    structured_by_a_tool,
    image,
    unknown_model,
    refused_parameter,
]
