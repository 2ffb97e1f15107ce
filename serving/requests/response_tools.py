"""The tools of a request to OpenAI's Responses API."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.mistral.draft import objects_in
from serving.mistral.rules import InvalidRequest
from serving.mistral.tool_names import shortened
from serving.requests.custom_tools import input_parameters
from serving.requests.function_names import LONG_NAME, LONGEST_NAME, is_function_name
from serving.requests.places import wrong_type
from serving.requests.request import JsonObject, Tools
from serving.requests.tools import callable_tools

_ToolKey = tuple[str, str | None]
"""The name and the namespace by which a client tells a tool."""


@dataclass(frozen=True, slots=True)
class ClientTool:
    """How the client knows a tool that the model knows as a function."""

    name: str
    namespace: str | None = None
    custom: bool = False
    """Whether the tool takes a text as its input, rather than JSON arguments."""


@dataclass(frozen=True, slots=True)
class ResponseTools:
    """The tools of a request, as functions."""

    functions: list[JsonObject] = field(default_factory=list)
    """Functions as in OpenAI's chat completions, by the names that the model knows."""
    client: Mapping[str, ClientTool] = field(default_factory=dict)
    """The tools that are no plain functions to the client, by the model's name."""
    names: Mapping[_ToolKey, str] = field(default_factory=dict)
    """The model's names of the tools."""
    schema_paths: Sequence[str] = ()
    """Where the request has the parameters of each function."""

    def name_of(self, name: str, namespace: str | None) -> str:
        """Returns the name by which the model knows a tool, which may be one of earlier turns."""
        return self.names.get((name, namespace)) or _flat_name(name, namespace)

    def allowed(self, choice: Any, parallel: bool) -> Tools:
        """Returns the tools that the answer may call. Raises InvalidRequest."""
        if isinstance(choice, dict):
            name = choice.get("name")
            if choice.get("type") not in ("function", "custom") or not isinstance(name, str):
                raise InvalidRequest(
                    'tool_choice must be "auto", "none", "required", or name a function or a '
                    "custom tool.",
                    "tool_choice",
                )
            return callable_tools(self.functions, "required", self._model_name(name), parallel)
        if choice not in ("auto", "none", "required"):
            raise InvalidRequest('tool_choice must be "auto", "none" or "required".', "tool_choice")
        return callable_tools(self.functions, choice, None, parallel)

    def _model_name(self, name: str) -> str:
        """Returns the model's name of a tool that a choice names, perhaps without namespace."""
        names = [function["name"] for function in self.functions]
        if name in names:
            return name
        found = [
            flat
            for flat, tool in self.client.items()
            if name in (tool.name, f"{tool.namespace}__{tool.name}")
        ]
        if len(found) > 1:
            raise InvalidRequest(
                "tool_choice names a tool that several namespaces have: put its namespace and "
                "two underscores before its name.",
                "tool_choice",
            )
        return found[0] if found else name


def _flat_name(name: str, namespace: str | None) -> str:
    flat = name if namespace is None else f"{namespace}__{name}"
    return flat if len(flat) <= LONGEST_NAME else shortened(flat)


def _model_names(tools: Iterable[_ToolKey]) -> dict[_ToolKey, str]:
    """Returns a different name for each tool; one without a namespace keeps its own."""
    keys: dict[str, _ToolKey] = {}
    for key in sorted(set(tools), key=lambda key: (key[1] is not None, key)):
        name = _flat_name(*key)
        while name in keys:
            name = shortened(name)
        keys[name] = key
    return {key: name for name, key in keys.items()}


def read_tools(tools: Sequence[JsonObject]) -> ResponseTools:
    """Converts tools to functions. Raises InvalidRequest."""
    functions: list[JsonObject] = []
    client: dict[str, ClientTool] = {}
    flat = [
        (path, tool, (_string(tool, "name", path), namespace))
        for path, tool, namespace in _flat(tools)
    ]
    names = _model_names(key for *_, key in flat)
    for path, tool, (name, namespace) in flat:
        custom = tool.get("type") == "custom"
        function: JsonObject = {"name": names[name, namespace]}
        if not is_function_name(function["name"]):
            raise InvalidRequest(f"{path}.name must be {LONG_NAME}.", param="tools")
        if tool.get("description") is not None:
            function["description"] = _string(tool, "description", path)
        if custom:
            function |= {"parameters": input_parameters(tool.get("format"), path), "strict": True}
        else:
            function |= _parameters(tool, path)
        functions.append(function)
        if custom or function["name"] != name:
            client[function["name"]] = ClientTool(name, namespace, custom)
    paths = [
        f"{path}.{'format' if tool['type'] == 'custom' else 'parameters'}" for path, tool, _ in flat
    ]
    return ResponseTools(functions, client, names, tuple(paths))


def with_formats(tools: Sequence[JsonObject]) -> list[JsonObject]:
    """Returns tools of which custom ones, also those of namespaces, say the format of their input,
    as clients read them in a response."""
    told: list[JsonObject] = []
    for tool in tools:
        if tool.get("type") == "namespace":
            tool = {**tool, "tools": with_formats(objects_in(tool.get("tools")))}
        elif tool.get("type") == "custom" and tool.get("format") is None:
            tool = {**tool, "format": {"type": "text"}}
        told.append(tool)
    return told


def _flat(tools: Sequence[JsonObject]) -> Iterator[tuple[str, JsonObject, str | None]]:
    """Yields each function and custom tool with its path and its namespace."""
    for index, tool in enumerate(tools):
        path = f"tools[{index}]"
        if tool.get("type") != "namespace":
            yield path, _supported(tool, path), None
            continue
        namespace = _string(tool, "name", path)
        inner = tool.get("tools")
        if not isinstance(inner, list):
            raise wrong_type(f"{path}.tools", "an array")
        for position, one in enumerate(inner):
            inner_path = f"{path}.tools[{position}]"
            yield inner_path, _supported(one, inner_path), namespace


def _supported(tool: Any, path: str) -> JsonObject:
    if not isinstance(tool, dict):
        raise wrong_type(path, "an object")
    if tool.get("type") not in ("function", "custom"):
        raise InvalidRequest(
            f"{path} is of a type that this service does not run. Leave it out, or send a tool of "
            'the type "function" and run it in the client.',
            param="tools",
            code="unsupported_parameter",
        )
    return tool


def _parameters(tool: JsonObject, path: str) -> JsonObject:
    fields: JsonObject = {}
    for key, type, what in (("parameters", dict, "an object"), ("strict", bool, "a boolean")):
        value = tool.get(key)
        if value is None:
            continue
        if not isinstance(value, type):
            raise wrong_type(f"{path}.{key}", what)
        fields[key] = value
    return fields


def _string(holder: JsonObject, key: str, path: str) -> str:
    value = holder.get(key)
    if not isinstance(value, str) or (key == "name" and not value):
        raise wrong_type(f"{path}.{key}", "a string")
    return value
