"""The tools of a request and the choice among them."""

from collections.abc import Sequence

from serving.mistral.grammar import CallableTool
from serving.mistral.rules import InvalidRequest
from serving.requests.request import JsonObject, Tools


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
            code="invalid_value",
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
                code="invalid_value",
            )
