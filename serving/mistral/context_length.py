"""What clients are told of a prompt that the context does not hold: words and a code by which they
know that they must shorten the conversation."""

import re

CODE = "context_length_exceeded"
"""OpenAI's code of such an error."""

_OPENAIS = "maximum context length"
"""What OpenAI's, vLLM's, and our engines' messages have in them."""
_TOO_LONG = (
    # OpenAI's, vLLM's, and our engines'
    re.compile(
        r"maximum context length is (?P<most>\d+) tokens[^()]*?"
        r"(?P<found>\d+) (?:input )?(?P<unit>tokens)"
    ),
    re.compile(
        r"your prompt contains (?P<found>\d+) (?P<unit>characters) \(more than (?P<most>\d+)"
    ),
    # llama.cpp's
    re.compile(
        r"request \((?P<found>\d+) (?P<unit>tokens)\) exceeds the available context size "
        r"\((?P<most>\d+) tokens\)"
    ),
    # LM Studio's
    re.compile(
        r"number of (?P<unit>tokens) to keep from the initial prompt is greater than the context "
        r"length \(n_keep: (?P<found>\d+) ?>= ?n_ctx: (?P<most>\d+)\)"
    ),
)


def in_openais_words(message: str) -> str | None:
    """Returns the message of another server's error in the words by which OpenAI's clients know
    that they must shorten the conversation; None if it does not say that the prompt is too long."""
    if _OPENAIS in message:
        return message
    match = _match(message)
    if match is None:
        return None
    return (
        f"This model's {_OPENAIS} is {match['most']} tokens. However, your messages resulted in "
        f"{match['found']} {match['unit']}. Please reduce the length of the messages."
    )


def in_anthropics_words(message: str) -> str:
    """Returns the message of an error in the words by which Anthropic's clients know that they
    must shorten the conversation, if it says that the prompt is too long; else unchanged."""
    match = _match(message)
    if match is None:
        return message
    found, most = int(match["found"]), int(match["most"])
    most = min(most, found - 1)  # An answer needs a token too.
    return f"prompt is too long: {found} {match['unit']} > {most} maximum"


def _match(message: str) -> re.Match[str] | None:
    matches = (pattern.search(message) for pattern in _TOO_LONG)
    return next((match for match in matches if match and _is_more(match)), None)


def _is_more(match: re.Match[str]) -> bool:
    return int(match["found"]) >= int(match["most"])
