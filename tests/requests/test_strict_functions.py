from typing import Any

import pytest

from serving.requests.request import JsonObject
from tests.requests.response_requests import reading

TEXT: JsonObject = {"type": "string", "description": "A text."}


def closed(**properties: Any) -> JsonObject:
    required = list(properties)
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def strictness(parameters: Any, **fields: Any) -> bool:
    """Returns whether a function is strict to the model, which the response must repeat."""
    tool = {"type": "function", "name": "f", "parameters": parameters, **fields}
    space = {"type": "namespace", "name": "ns", "tools": [tool]}
    made, options = reading(tools=[tool, space])
    plain, (inner,) = options.echoed["tools"][0], options.echoed["tools"][1]["tools"]
    (one, two) = made.tools.callable
    assert one.strict is two.strict is plain["strict"] is inner["strict"]
    assert {**tool, "strict": one.strict} == plain == inner
    return one.strict


OPTIONAL = {**closed(a=TEXT, b=TEXT), "required": ["a"]}
OPEN = {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}
DEEP: JsonObject = TEXT
for _ in range(100):
    DEEP = closed(a=DEEP)


@pytest.mark.parametrize(
    ("fit", "schema"),
    [
        (True, TEXT),
        (True, {"type": ["string", "null"], "format": "date", "pattern": "^(?:a|b)$"}),
        (True, {"enum": ["a", 1]}),
        (True, {"type": "array", "items": closed(b=TEXT), "maxItems": 3}),
        (True, {"anyOf": [closed(), {"type": "null"}]}),
        (True, {"$ref": "#/$defs/d"}),
        (True, {"$ref": "#"}),
        (True, closed(type=TEXT, properties=TEXT, required=closed(items=TEXT))),
        (False, OPTIONAL),
        (False, OPEN),
        (False, closed(b=OPEN)),
        (False, {"type": "array", "items": OPEN}),
        (False, {"type": ["object", "null"]}),
        (False, {"anyOf": [OPTIONAL, {"type": "null"}]}),
        (False, {"type": "array"}),
        (False, {}),
        (False, True),
        (False, {"description": "Anything."}),
        (False, {"oneOf": [TEXT]}),
        (False, {"type": "array", "items": TEXT, "uniqueItems": True}),
        (False, {"type": "string", "format": "colour"}),
        (False, {"type": "string", "pattern": "(?<!a)b"}),
        (False, {"$ref": "https://example.com/schema"}),
        (False, {"anyOf": "x"}),
        (False, {"type": "object", "properties": []}),
        (False, {"type": ["a", ["b"]], "format": ["c"], "$defs": 5}),
        (False, DEEP),
    ],
)
def test_functions_are_strict_if_their_schema_is_fit_for_it(fit: bool, schema: Any) -> None:
    parameters = {**closed(a=schema), "$defs": {"d": closed(c=TEXT)}}
    assert strictness(parameters) is strictness(parameters, strict=None) is fit


@pytest.mark.parametrize("parameters", [OPTIONAL, OPEN, {}, None, {"type": "object"}, DEEP])
def test_functions_with_open_parameters_are_not(parameters: Any) -> None:
    assert strictness(parameters) is False


def test_definitions_count_too() -> None:
    assert not strictness({**closed(a={"$ref": "#/$defs/d"}), "$defs": {"d": OPEN}})
    assert not strictness({"anyOf": [closed()], **closed()} | {"anyOf": [OPEN]})


def test_what_the_client_says_holds() -> None:
    assert strictness(OPTIONAL, strict=True) is True
    assert strictness(closed(a=TEXT), strict=False) is False
