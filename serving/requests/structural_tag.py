"""Reads structural tags: parts of a text that begin and end with given texts, with JSON between."""

import json
from collections import defaultdict

import msgspec

from serving.mistral.grammar import answer_schema
from serving.mistral.rules import InvalidRequest
from serving.requests.request import JsonObject


class _Tag(msgspec.Struct):
    begin: str
    schema: JsonObject
    end: str


class _Form(msgspec.Struct):
    structures: list[_Tag]
    triggers: list[str]


def structural_tag_grammar(form: str | JsonObject, param: str) -> str:
    """Returns the grammar of a text in which each trigger begins one of the tags, in llguidance's
    dialect of Lark. `form` is vLLM's, or its JSON. Raises InvalidRequest about the field `param`.

    All texts are literal: vLLM takes those in angle brackets for names of control tokens, and
    enforces no schema.
    """
    given = _read(form, param)
    bodies: defaultdict[str, list[str]] = defaultdict(list)
    for index, tag in enumerate(given.structures):
        trigger = next(filter(tag.begin.startswith, given.triggers), None)
        if trigger is None:
            raise InvalidRequest(
                f"{param}: structures[{index}].begin has none of the triggers.", param
            )
        rest, end = _literal(tag.begin.removeprefix(trigger)), _literal(tag.end)
        bodies[trigger].append(f"{rest} %json {answer_schema(tag.schema)} {end}")
    names = [f"tag_{index}" for index in range(len(bodies))]
    lines = [f"start: ({' | '.join(names)})* text", "text: TEXT", r"TEXT: /(.|\n)*/"]
    for name, (trigger, choices) in zip(names, bodies.items(), strict=True):
        lines.append(f"{name}_begin[lazy]: TEXT {_literal(trigger)}")
        lines.append(f"{name}: {name}_begin ({' | '.join(choices)})")
    return "\n".join(lines) + "\n"


def _read(form: str | JsonObject, param: str) -> _Form:
    try:
        if isinstance(form, str):
            given = msgspec.json.decode(form, type=_Form)
        else:
            given = msgspec.convert(form, _Form)
    except (msgspec.DecodeError, RecursionError) as error:
        what = str(error) if isinstance(error, msgspec.ValidationError) else "it is not valid JSON"
        raise InvalidRequest(f"{param} is no structural tag: {what}.", param) from None
    if not given.structures:
        raise InvalidRequest(f"{param}: structures must not be empty.", param)
    if not all(given.triggers):
        raise InvalidRequest(f"{param}: triggers must not contain an empty string.", param)
    return given


def _literal(text: str) -> str:
    return json.dumps(text) if text else ""
