"""smolagents, whose agents must call a tool in every turn, the last one with the answer."""

import base64
import io
from typing import Any, Literal

from PIL import Image
from smolagents import OpenAIModel, ToolCallingAgent, tool

from tests.e2e.clients import questions


def chat(model: str = questions.MODEL, temperature: float = 0) -> Any:
    return OpenAIModel(
        model,
        temperature=temperature,
        max_tokens=300,
        api_base=f"{questions.URL}/v1",
        api_key="none",
        client_kwargs={"max_retries": 0},
    )


APIS = {"chat": chat}
TOOLS = [tool(questions.my_calculator), tool(questions.rewrite)]


@tool
def calculator(expression: Literal["6 + 2 * 3", "19 - (8 + 2) + 1"]) -> str:
    """A calculator that can evaluate a mathematical expression.

    Args:
        expression: The mathematical expression to evaluate.
    """
    return questions.my_calculator(expression)


def user(text: str, *more: Any) -> Any:
    return [{"role": "user", "content": [{"type": "text", "text": text}, *more]}]


def opened(image: str) -> Any:
    return Image.open(io.BytesIO(base64.b64decode(image.split(",")[1])))


def about_image(text: str, image: str) -> Any:
    return user(text, {"type": "image", "image": opened(image)})


def hello(model: Any) -> Any:
    return model().generate(user(questions.HELLO)).content


def stream(model: Any) -> Any:
    return [delta.content or "" for delta in model().generate_stream(user(questions.COUNT))]


def calls(model: Any) -> Any:
    message = model().generate(
        about_image(questions.EQUATIONS, questions.NOISE), tools_to_call_from=TOOLS
    )
    return [call.function.arguments for call in message.tool_calls]


def agent(model: Any) -> None:
    one = ToolCallingAgent(tools=[calculator], model=model(), max_steps=1)
    one.run(questions.EQUATIONS, images=[opened(questions.NOISE)])


def agent_streamed(model: Any) -> None:
    one = ToolCallingAgent(tools=[calculator], model=model(), max_steps=1, stream_outputs=True)
    for _ in one.run(questions.EQUATIONS, images=[opened(questions.NOISE)], stream=True):
        pass


def image(model: Any) -> Any:
    return model().generate(about_image(questions.COLOUR, questions.RED)).content


def unknown_model(model: Any) -> Any:
    return hello(lambda: model(questions.UNKNOWN_MODEL))


def refused_parameter(model: Any) -> Any:
    return hello(lambda: model(temperature=questions.TOO_HOT))


STEPS = [hello, stream, calls, agent, agent_streamed, image, unknown_model, refused_parameter]
