"""The requests that several checks share. The streaming checks compare each with its stream."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from serving import model_cards as doc
from serving.tiny import answers as own

from .model import Model
from .needs import Need, reasoning, tiny, vision
from .pictures import COLOURS, picture

Body = dict[str, Any]

MAX_TOKENS = 1000
"""The `max_tokens` of the cases: enough for each, and a limit for a model that does not stop."""
LOOP_TOKENS = 400
"""The `max_tokens` of a request for a loop: twice what the loop guard may let through."""
CUT_TOKENS = 12

CAPITAL_SCHEMA = {
    "type": "object",
    "properties": {"country": {"type": "string"}, "capital": {"type": "string"}},
    "required": ["country", "capital"],
    "additionalProperties": False,
}
NAMED_WEATHER = {"type": "function", "function": {"name": "get_current_weather"}}


@dataclass(frozen=True)
class Case:
    body: Callable[[Model], Body]
    needs: tuple[Need, ...] = ()


def asked(text: str, system: str | None = None, **more: Any) -> Body:
    """The body of a request with one user turn."""
    return {"messages": doc.chat(system, text), **more}


def image_question(text: str, *urls: str, **more: Any) -> Body:
    """The body of a request with one user turn that has images."""
    return {"messages": [doc.image_message(text, *urls)], **more}


def card_image(model: Model, url: str) -> str:
    """The image of a card's example: its own, or any for a model that knows the answer anyway."""
    return picture() if model.tiny else url


def _json(**response_format: Any) -> Body:
    return asked(own.JSON_QUESTIONS[0].format("France"), response_format=response_format)


def _weather(**more: Any) -> Body:
    return {"messages": doc.weather_messages(None), "tools": doc.WEATHER_TOOLS, **more}


def _two_calls(model: Model) -> Body:
    messages = doc.chat(None, own.SUMS_PROMPT)
    if model.family.vision and model.tiny:  # which learnt the card's request only
        messages = doc.equations_messages(None, picture())
    return {"messages": messages, "tools": doc.CALCULATOR_TOOLS}


def _two_results(model: Model) -> Body:
    ids = ["Zq8Xw3Lm0", "vLm4t8QeR"]
    return {"messages": two_results(model, ids)}


def two_results(model: Model, ids: list[str]) -> list[doc.Message]:
    """A history of two parallel calls with those ids and their results. The turn of the calls has
    no content."""
    calls = [
        {
            "id": call_id,
            "type": "function",
            "function": {
                "name": "my_calculator",
                "arguments": f'{{"expression": "{a["expression"]}"}}',
            },
        }
        for call_id, a in zip(ids, doc.EQUATIONS_ARGUMENTS, strict=True)
    ]
    results = doc.tool_results([(i, "my_calculator") for i in ids], doc.EQUATIONS_RESULTS)
    return [*_two_calls(model)["messages"], {"role": "assistant", "tool_calls": calls}, *results]


def _population(model: Model) -> Body:
    image = card_image(model, doc.MAP_IMAGE_URL)
    messages = doc.population_messages(None, image)
    return {"messages": messages, "tools": doc.POPULATION_TOOLS, "tool_choice": "auto"}


def _map(model: Model) -> Body:
    messages = doc.map_messages(None, card_image(model, doc.MAP_IMAGE_URL))
    return {"messages": messages, "tools": doc.POPULATION_TOOLS, "tool_choice": "auto"}


def thoughts(model: Model, query: str = doc.SHIRTS_QUERY, **more: Any) -> Body:
    """A query of Magistral's card, after its system prompt."""
    sampling = {} if model.tiny else model.family.sampling
    return asked(query, doc.MAGISTRAL_SYSTEM_PROMPT, **{**sampling, **more})


CASES: dict[str, Case] = {
    "a greeting": Case(lambda _: asked("Hello")),
    "text in several scripts": Case(lambda _: asked(own.SCRIPTS_PROMPT)),
    "a long count": Case(lambda _: asked("Count from 1 to 100.")),
    "text cut at max_tokens": Case(lambda _: asked("Count from 1 to 100.", max_tokens=CUT_TOKENS)),
    "text up to a stop string": Case(lambda _: asked("Count from 1 to 10.", stop=[", 5"])),
    "a loop": Case(lambda _: asked(own.LOOP_PROMPT, max_tokens=LOOP_TOKENS)),
    "JSON": Case(lambda _: _json(type="json_object")),
    "JSON of a schema": Case(
        lambda _: _json(
            type="json_schema",
            json_schema={"name": "capital", "schema": CAPITAL_SCHEMA, "strict": True},
        )
    ),
    "a tool call": Case(lambda _: _weather()),
    "two tool calls": Case(_two_calls),
    "one tool call of two": Case(lambda m: {**_two_calls(m), "parallel_tool_calls": False}),
    "text after two results": Case(_two_results),
    "a required call": Case(lambda _: _weather(tool_choice="required")),
    "a named call": Case(lambda _: _weather(tool_choice=NAMED_WEATHER)),
    "text beside forbidden tools": Case(lambda _: _weather(tool_choice="none")),
    "an image": Case(
        lambda _: image_question(own.COLOUR_QUESTIONS[0], picture(COLOURS["blue"])), (vision,)
    ),
    "text beside tools and an image": Case(_map, (vision,)),
    "a call after an image": Case(_population, (vision,)),
    "thoughts": Case(thoughts, (reasoning,)),
    "thoughts cut at max_tokens": Case(lambda m: thoughts(m, max_tokens=CUT_TOKENS), (reasoning,)),
    "separate thoughts": Case(lambda m: thoughts(m, reasoning_format="separate"), (reasoning,)),
    "separate thoughts cut at max_tokens": Case(
        lambda m: thoughts(m, max_tokens=CUT_TOKENS, reasoning_format="separate"), (reasoning,)
    ),
    "endless thoughts": Case(
        lambda m: thoughts(m, own.LOOP_PROMPT, max_tokens=LOOP_TOKENS), (reasoning, tiny)
    ),
}


def body_of(case: str, model: Model) -> Body:
    """The body of a case's request for a model."""
    return {"max_tokens": MAX_TOKENS, **CASES[case].body(model)}
