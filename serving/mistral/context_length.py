"""Anthropic's words for a prompt that the context does not hold, in place of other servers'."""

import re

_TOO_LONG = (
    # vLLM's, and our engines'
    re.compile(
        r"maximum context length is (?P<most>\d+) tokens[^()]*?"
        r"(?P<found>\d+) input (?P<unit>tokens)"
    ),
    re.compile(
        r"your prompt contains (?P<found>\d+) (?P<unit>characters) \(more than (?P<most>\d+)"
    ),
    # llama.cpp's
    re.compile(
        r"request \((?P<found>\d+) (?P<unit>tokens)\) exceeds the available context size "
        r"\((?P<most>\d+) tokens\)"
    ),
)


def in_anthropics_words(message: str) -> str:
    """Returns the message of an error in the words by which Anthropic's clients know that they
    must shorten the conversation, if it says that the prompt is too long; else unchanged."""
    for pattern in _TOO_LONG:
        match = pattern.search(message)
        if match is not None:
            found, most = int(match["found"]), int(match["most"])
            if found >= most:
                most = min(most, found - 1)  # An answer needs a token too.
                return f"prompt is too long: {found} {match['unit']} > {most} maximum"
    return message
