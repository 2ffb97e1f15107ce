"""The tools of a request and the choice among them."""

import copy
import re
import warnings
from collections.abc import Sequence

from mistral_common.exceptions import InvalidToolSchemaException
from mistral_common.protocol.instruct.messages import (
    AssistantMessage,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import Tool
from mistral_common.protocol.instruct.validator import MistralRequestValidator

from serving.mistral.grammar import CallableTool
from serving.mistral.rules import InvalidRequest
from serving.mistral.schemas import schemas_in
from serving.requests.request import Chat, JsonObject, Tools

_LONGEST_REASON = 200

# Python warns of sets in regular expressions that it may read otherwise one day. Those here are the
# clients', and nothing in Python matches them.
warnings.filterwarnings("ignore", "Possible (nested set|set )", FutureWarning)


def callable_tools(
    functions: Sequence[JsonObject], choice: str, named: str | None, parallel: bool
) -> Tools:
    """Returns the tools that an answer may call. `functions` have `name`, `parameters` and `strict`
    as OpenAI's do; `choice` is "none", "auto" or "required", which a tool chosen by name implies.
    Raises InvalidRequest."""
    if choice == "none":
        return Tools()
    _refuse_namesakes(functions)
    if named is not None:
        functions = [function for function in functions if function["name"] == named]
        choice = "required"
    if choice == "required" and not functions:
        raise InvalidRequest(
            "tool_choice must name one of the tools of this request."
            if named is not None
            else "tool_choice requires a call, but the request has no tools.",
            param="tool_choice",
        )
    if not functions:
        return Tools()
    return Tools(
        [
            CallableTool(
                function["name"], function.get("parameters"), function.get("strict") is True
            )
            for function in functions
        ],
        "required" if choice == "required" else "auto",
        parallel,
    )


def _refuse_namesakes(functions: Sequence[JsonObject]) -> None:
    """Rejects different tools of one name, of which a call would not tell which is meant."""
    by_name: dict[str, JsonObject] = {}
    for function in functions:
        name = function["name"]
        if by_name.setdefault(name, function) != function:
            raise InvalidRequest(
                f'tools has different tools with the name "{name[:64]}": give each a name of its '
                "own.",
                param="tools",
            )


def described(functions: Sequence[JsonObject]) -> list[JsonObject]:
    """Returns the tools of a chat as its prompt has them. A regular expression that Python cannot
    read, by which mistral_common would refuse the request, becomes a keyword that it ignores."""
    return [{"type": "function", "function": _readable(function)} for function in functions]


def _readable(function: JsonObject) -> JsonObject:
    if not any(_foreign(schema) for schema in schemas_in(function.get("parameters"))):
        return function
    parameters = copy.deepcopy(function["parameters"])
    for schema in schemas_in(parameters):
        foreign = _foreign(schema)
        fields = [(f"x-{key}" if key in foreign else key, value) for key, value in schema.items()]
        schema.clear()
        schema.update(fields)
    return {**function, "parameters": parameters}


def _foreign(schema: JsonObject) -> list[str]:
    """Returns the keywords of a schema that have a regular expression which Python cannot read."""
    return [
        keyword
        for keyword, value in schema.items()
        if (keyword == "pattern" and not _is_python(value))
        or (
            keyword == "patternProperties"
            and type(value) is dict
            and not all(map(_is_python, value))
        )
    ]


def _is_python(expression: object) -> bool:
    if not isinstance(expression, str):
        return True  # which is an error of another kind
    try:
        re.compile(expression)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def refuse_broken_schemas(chat: Chat) -> None:
    """Raises InvalidRequest for the first tool whose parameters mistral_common refuses."""
    validator = MistralRequestValidator[UserMessage, AssistantMessage, ToolMessage, SystemMessage]()
    for tool, path in zip(chat.tools, chat.schema_paths, strict=True):
        try:
            validator.validate_request(
                ChatCompletionRequest(
                    messages=[UserMessage(content="")], tools=[Tool.from_openai(tool)]
                )
            )
        except InvalidToolSchemaException as error:
            cause = error.__context__  # of jsonschema
            place = getattr(cause, "json_path", "$").removeprefix("$")
            reason = getattr(cause, "message", str(error))[:_LONGEST_REASON]
            raise InvalidRequest(
                f"{path}{place} is no valid JSON Schema: {reason}.", param=path
            ) from error
