"""How the model knows custom tools of OpenAI's APIs, whose input is a text: as functions of it."""

import json
from typing import Any

KEY = "input"
"""The name of the function's only argument."""


def parameters(text: dict[str, Any]) -> dict[str, Any]:
    """Returns the JSON schema of the function's arguments; `text` is that of the input."""
    return {
        "type": "object",
        "properties": {KEY: text},
        "required": [KEY],
        "additionalProperties": False,
    }


def arguments(text: str) -> str:
    """Returns the arguments of a call with that input, as the model writes them."""
    return json.dumps({KEY: text}, ensure_ascii=False)
