"""LiteLLM's library, over its providers for OpenAI's chat and responses, Mistral and Anthropic."""

import json
from typing import Any

import litellm

from serving import model_cards
from tests.e2e.clients import questions

TOOLS = model_cards.CALCULATOR_TOOLS


def over(provider: str, base: str) -> Any:
    def chat(model: str = questions.MODEL, temperature: float = 0) -> Any:
        def complete(messages: list[Any], **options: Any) -> Any:
            return litellm.completion(
                f"{provider}/{model}",
                messages,
                temperature=temperature,
                api_base=base,
                api_key="none",
                max_retries=0,
                max_tokens=300,
                **options,
            )

        return complete

    return chat


APIS = {
    "chat": over("openai", f"{questions.URL}/v1"),
    "responses": over("openai/responses", f"{questions.URL}/v1"),
    "mistral": over("mistral", f"{questions.URL}/v1"),
    "messages": over("anthropic", questions.URL),
    "vllm": over("hosted_vllm", f"{questions.URL}/v1"),
}


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def about_image(text: str, image: str) -> Any:
    return user(
        [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": image}}]
    )


EQUATIONS = about_image(questions.EQUATIONS, questions.NOISE)


def text(answer: Any) -> Any:
    return answer.choices[0].message.content


def pieces(chunks: Any) -> list[str]:
    return [chunk.choices[0].delta.content or "" for chunk in chunks]


def results(calls: list[Any]) -> list[Any]:
    return [
        {
            "role": "tool",
            "tool_call_id": call.id,
            "content": questions.my_calculator(**json.loads(call.function.arguments)),
        }
        for call in calls
    ]


def hello(chat: Any) -> Any:
    return text(chat()([user(questions.HELLO)]))


def stream(chat: Any) -> Any:
    return pieces(chat()([user(questions.COUNT)], stream=True))


def tools(chat: Any) -> Any:
    asked = [EQUATIONS]
    message = chat()(asked, tools=TOOLS).choices[0].message
    return text(chat()([*asked, message, *results(message.tool_calls)], tools=TOOLS))


def tools_streamed(chat: Any) -> Any:
    asked = [EQUATIONS]
    chunks = list(chat()(asked, tools=TOOLS, stream=True))
    message = litellm.stream_chunk_builder(chunks).choices[0].message
    asked += [message, *results(message.tool_calls)]
    return pieces(chat()(asked, tools=TOOLS, stream=True))


def structured_beside_tools(chat: Any) -> Any:
    answer = chat()([user(questions.CAPITAL)], response_format=questions.Capital, tools=TOOLS)
    return json.loads(text(answer))


def image(chat: Any) -> Any:
    return text(chat()([about_image(questions.COLOUR, questions.RED)]))


def unknown_model(chat: Any) -> Any:
    return text(chat(questions.UNKNOWN_MODEL)([user(questions.HELLO)]))


def refused_parameter(chat: Any) -> Any:
    return text(chat(temperature=questions.TOO_HOT)([user(questions.HELLO)]))


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
