"""OpenAI's limits on the metadata of a request."""

from typing import Any

_MOST = 16
_MOST_NAME, _MOST_VALUE = 64, 512

METADATA = f"at most {_MOST} texts of {_MOST_VALUE} characters, with names of {_MOST_NAME}"
"""What `is_metadata` is true of, in the words of an error."""


def is_metadata(value: Any) -> bool:
    """Whether a field has metadata as OpenAI's APIs take it."""
    return (
        isinstance(value, dict)
        and len(value) <= _MOST
        and all(
            isinstance(text, str) and len(name) <= _MOST_NAME and len(text) <= _MOST_VALUE
            for name, text in value.items()
        )
    )
