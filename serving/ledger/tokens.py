"""The tokens of one request at one engine."""

import msgspec


class Tokens(msgspec.Struct, frozen=True, array_like=True):
    """Counts of an engine, so far or at the request's end."""

    input: int = 0
    """Prompt tokens, with cached ones, as the usage of the answer has them; 0 until the first token
    was generated."""
    cached: int = 0
    """Prompt tokens that were in the prefix cache."""
    output: int = 0
    """Answer tokens, as the usage of the answer has them."""
    read: int = 0
    """Prompt tokens that were read, once for each of `n` choices, and the tokens of another engine
    that the answer goes on behind. vLLM counts these."""
    generated: int = 0
    """All tokens that were generated: also those behind a stop string or an abort, which no answer
    has. vLLM counts these."""
