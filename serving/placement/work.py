"""The work that a request asks of a replica."""

import msgspec

from serving.placement.prefix import Prefix


class Work(msgspec.Struct, frozen=True):
    """A request before it is placed. `prompt_tokens` is `prefix.tokens` unless a better value is
    known."""

    prefix: Prefix
    prompt_tokens: int
    output_tokens: int
    """Expected length of the answer, not the client's limit."""
    session: str | None = None
    """An id that the client chose; only session policies use it."""
    streamed: bool = True
    """Whether the first token will be seen."""
    adapter: str = ""
    """The adapter that answers; empty: the model itself does."""
    background: bool = False
    """Whether no one waits for the answer. Such work takes what interactive requests leave free."""
