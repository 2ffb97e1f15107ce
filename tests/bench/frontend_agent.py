"""A turn of a coding agent, of some 6,000 tokens: its tools, and what it has done so far."""

import json
import random
from typing import Any

_TOOLS = 15
_TURNS = 10
_WORDS = """
the file of a function returns its first line when no test has been run since that change and every
caller reads what it wrote into this folder before it asks for another name
"""


def agent_turn() -> dict[str, Any]:
    """Returns the fields of a chat completion."""
    draw = random.Random(0)
    return {
        "messages": [
            {"role": "system", "content": _text(draw, 800)},
            {"role": "user", "content": _text(draw, 60)},
            *(message for number in range(_TURNS) for message in _step(draw, number)),
        ],
        "tools": [_tool(draw, number) for number in range(_TOOLS)],
    }


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(_WORDS.split(), k=words))


def _step(draw: random.Random, number: int) -> list[dict[str, Any]]:
    id = f"{number:09}"
    arguments = json.dumps({"path": _text(draw, 3), "query": _text(draw, 5)})
    call = {"id": id, "type": "function", "function": {"name": "tool_0", "arguments": arguments}}
    return [
        {"role": "assistant", "content": _text(draw, 20), "tool_calls": [call]},
        {"role": "tool", "tool_call_id": id, "content": _text(draw, 200)},
    ]


def _tool(draw: random.Random, number: int) -> dict[str, Any]:
    places = {
        "type": "array",
        "description": _text(draw, 10),
        "items": {
            "type": "object",
            "properties": {"line": {"type": "integer"}, "kind": {"enum": ["old", "new"]}},
            "required": ["line"],
            "additionalProperties": False,
        },
    }
    properties = {
        "path": {"type": "string", "description": _text(draw, 10)},
        "query": {"type": "string", "description": _text(draw, 10)},
        "limit": {"type": "integer", "minimum": 1, "description": _text(draw, 5)},
        "places": places,
    }
    parameters = {
        "type": "object",
        "properties": properties,
        "required": ["path", "query"],
        "additionalProperties": False,
    }
    return {
        "type": "function",
        "function": {
            "name": f"tool_{number}",
            "description": _text(draw, 40),
            "parameters": parameters,
        },
    }
