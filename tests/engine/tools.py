"""Tools in the form of each API that has them."""

from typing import Any

from tests.engine.asking import CHAT, MESSAGES, RESPONSES
from tests.engine.fake_llm import CONTEXT_TOKENS, FakeLlm

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
TOOLS: dict[str, dict[str, Any]] = {
    CHAT: {"tools": [TOOL]},
    RESPONSES: {"tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}]},
    MESSAGES: {"tools": [{"name": "f", "input_schema": {"type": "object"}}]},
}
"""The fields of a request with one tool, `f`."""
PARAMETERS = {
    CHAT: "tools[1].function.parameters",
    RESPONSES: "tools[1].parameters",
    MESSAGES: "tools[1].input_schema",
}
"""Where a refusal says that the schema of the second tool of `tools_with` stands."""


def tools_with(path: str, schema: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """Returns two tools of that API, the second with a parameter of this schema."""
    name = "input_schema" if path == MESSAGES else "parameters"
    parameters = {"type": "object", "properties": {"x": schema}}
    tools = [{"name": "f", name: {"type": "object"}}, {"name": "g", name: parameters, **fields}]
    if path == CHAT:
        return [{"type": "function", "function": tool} for tool in tools]
    return [{"type": "function"} | tool if path == RESPONSES else tool for tool in tools]


def roomy() -> FakeLlm:
    """Returns an engine with a context for tools."""
    engine = FakeLlm()
    engine.model_config.max_model_len = 10 * CONTEXT_TOKENS
    return engine
