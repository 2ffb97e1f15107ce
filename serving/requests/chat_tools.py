"""The tools of a request to OpenAI's chat completions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serving.mistral.rules import InvalidRequest
from serving.requests.custom_tools import input_parameters
from serving.requests.function_names import NAME, is_function_name
from serving.requests.request import JsonObject, Tools
from serving.requests.tools import callable_tools

_KINDS = ("function", "custom")
"""The types of tools, and the fields with what they are."""


@dataclass(frozen=True, slots=True)
class ChatTools:
    """The tools of a request, as functions."""

    functions: list[JsonObject]
    """Functions as the prompt describes them."""
    custom: frozenset[str]
    """The names of the tools whose calls have a text as their input."""
    schema_paths: Sequence[str]
    """Where the request has the parameters of each function."""

    def allowed(self, choice: Any, parallel: bool) -> Tools:
        """Returns the tools that the answer may call. Raises InvalidRequest."""
        if choice is None:
            choice = "auto" if self.functions else "none"
        if choice in ("none", "auto", "required"):
            return callable_tools(self.functions, choice, None, parallel)
        kind = choice.get("type", "function") if type(choice) is dict else None
        named = choice.get(kind) if kind in _KINDS else None
        if type(named) is not dict or type(named.get("name")) is not str:
            raise InvalidRequest(
                'tool_choice must be "none", "auto", "required", or name a function or a custom '
                "tool.",
                "tool_choice",
            )
        return callable_tools(self.functions, "required", named["name"], parallel)


def read_tools(tools: Sequence[JsonObject]) -> ChatTools:
    """Converts tools to functions. Raises InvalidRequest."""
    functions: list[JsonObject] = []
    custom: set[str] = set()
    schema_paths: list[str] = []
    for index, tool in enumerate(tools):
        kind = tool.get("type", "function")
        function = tool.get(kind) if kind in _KINDS else None
        if type(function) is not dict:
            raise InvalidRequest(f"tools[{index}] must be a function or a custom tool.", "tools")
        path = f"tools[{index}].{kind}"
        functions.append(_function(function, kind, path))
        if kind == "custom":
            custom.add(function["name"])
        schema_paths.append(f"{path}.{'format' if kind == 'custom' else 'parameters'}")
    return ChatTools(functions, frozenset(custom), tuple(schema_paths))


def _function(function: JsonObject, kind: str, path: str) -> JsonObject:
    name = function.get("name")
    if type(name) is not str or not is_function_name(name):
        raise InvalidRequest(f"{path}.name must be {NAME}.", "tools")
    if type(function.get("description", "")) not in (str, type(None)):
        raise InvalidRequest(f"{path}.description must be a string.", "tools")
    if kind == "custom":
        parameters = input_parameters(_flat_format(function.get("format")), path)
        function = {**function, "parameters": parameters, "strict": True}
    if type(function.get("strict")) not in (bool, type(None)):
        raise InvalidRequest(f"{path}.strict must be a boolean.", "tools")
    if type(function.get("parameters", {})) not in (dict, type(None)):
        raise InvalidRequest(f"{path}.parameters must be a JSON schema.", "tools")
    # mistral_common accepts neither null nor other fields, which clients send.
    known = ("name", "description", "parameters", "strict")
    return {name: value for name in known if (value := function.get(name)) is not None}


def _flat_format(format: Any) -> Any:
    """Returns the format of a custom tool's input as /v1/responses has it, without an object around
    the grammar."""
    grammar = format.get("grammar") if type(format) is dict else None
    return {**format, **grammar} if type(grammar) is dict else format
