"""Small JSON schemas that llguidance does not compile in any useful time."""

from typing import Any

NEVER_COMPILED: dict[str, Any] = {
    "allOf": [
        {"type": "string", "pattern": f"[a-{chr(99 + n % 20)}]{{1,{n + 30}}}x.*{n}"}
        for n in range(30)
    ]
}
"""An intersection of patterns, on which llguidance 1.7 works for more than a minute."""

HOSTILE_SCHEMAS: dict[str, dict[str, Any]] = {
    "patterns": NEVER_COMPILED,
    "repetitions": {
        "type": "array",
        "items": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "integer"}, "maxItems": 130_000},
            "maxItems": 130_000,
        },
        "maxItems": 130_000,
    },
    "properties": {
        "type": "object",
        "properties": {f"property{n}": {"type": "string"} for n in range(10_000)},
    },
}
