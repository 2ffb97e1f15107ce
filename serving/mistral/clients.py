"""Recognises clients that take no pieces of tool calls, as Mistral's own API has none."""

from collections.abc import Mapping

_TAKE_CALLS_WHOLE = b"mistral-client-", b"langchain4j-mistral-ai", b"ai-sdk/mistral/"
"""What their `User-Agent` begins with."""
_SEMANTIC_KERNEL = b"Semantic-Kernel"
"""The whole `User-Agent` of Semantic Kernel's connector for Mistral, with which that of its
connector for OpenAI begins."""


def takes_calls_whole(headers: Mapping[bytes, bytes], has_usage_options: bool) -> bool:
    """Returns whether the client with those headers loses calls that are streamed in pieces.
    `has_usage_options` is whether it says if it wants the stream's usage."""
    # Chrome lets no page set `User-Agent`: Mistral's client has a header of its own there.
    agent = headers.get(b"x-mistral-user-agent") or headers.get(b"user-agent", b"")
    if agent.startswith(b"python-httpx/"):
        # LangChain's ChatMistralAI has no name: its headers are those of httpx-sse over httpx.
        return headers.get(b"cache-control") == b"no-store"
    if agent.startswith(b"opencode/"):
        # It replaces the name of its provider, of which all but Mistral's ask for the usage.
        return not has_usage_options
    return agent == _SEMANTIC_KERNEL or agent.startswith(_TAKE_CALLS_WHOLE)
