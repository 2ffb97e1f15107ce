"""Instructor, which gets objects of a class by a forced call or by a schema."""

from typing import Any

import instructor
from anthropic import Anthropic
from mistralai.client import Mistral
from openai import OpenAI

from tests.e2e.clients import questions


def openai() -> Any:
    return OpenAI(base_url=f"{questions.URL}/v1", api_key="none", max_retries=0)


APIS = {
    "chat, a call": lambda: instructor.from_openai(openai(), mode=instructor.Mode.TOOLS),
    "chat, a strict call": lambda: instructor.from_openai(
        openai(), mode=instructor.Mode.TOOLS_STRICT
    ),
    "chat, a schema": lambda: instructor.from_openai(openai(), mode=instructor.Mode.JSON_SCHEMA),
    "responses": lambda: instructor.from_openai(openai(), mode=instructor.Mode.RESPONSES_TOOLS),
    "messages": lambda: instructor.from_anthropic(
        Anthropic(base_url=questions.URL, api_key="none", max_retries=0)
    ),
    "mistral, a call": lambda: instructor.from_mistral(
        Mistral(server_url=questions.URL, api_key="none")
    ),
    "mistral, a schema": lambda: instructor.from_mistral(
        Mistral(server_url=questions.URL, api_key="none"),
        mode=instructor.Mode.MISTRAL_STRUCTURED_OUTPUTS,
    ),
}


def create(client: Any, model: str = questions.MODEL, max_tokens: int = 300) -> Any:
    return client.chat.completions.create(
        model=model,
        max_tokens=max_tokens,
        messages=[{"role": "user", "content": questions.CAPITAL}],
        response_model=questions.Capital,
        max_retries=0,
    )


def an_object(client: Any) -> Any:
    return sorted(create(client()).model_dump())


def an_object_streamed(client: Any) -> Any:
    partial = client().chat.completions.create_partial(
        model=questions.MODEL,
        max_tokens=300,
        messages=[{"role": "user", "content": questions.CAPITAL}],
        response_model=questions.Capital,
        max_retries=0,
    )
    return sorted(list(partial)[-1].model_dump())


def unknown_model(client: Any) -> Any:
    return create(client(), model=questions.UNKNOWN_MODEL).model_dump()


def refused_parameter(client: Any) -> Any:
    return create(client(), max_tokens=-1).model_dump()


STEPS = [an_object, an_object_streamed, unknown_model, refused_parameter]
