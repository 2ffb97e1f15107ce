"""The names that functions may have."""

import re

LONGEST_NAME = 64
"""Characters that Mistral's tokenizers accept."""
_CHARACTERS = "letters, digits, underscores and dashes"

is_function_name = re.compile(rf"[a-zA-Z0-9_-]{{1,{LONGEST_NAME}}}").fullmatch
NAME = f"a string of 1 to {LONGEST_NAME} {_CHARACTERS}"
LONG_NAME = f"a string of 1 to 128 {_CHARACTERS}"
"""Where an API takes longer names than the tokenizers, and serving.mistral.tool_names shortens
them."""
