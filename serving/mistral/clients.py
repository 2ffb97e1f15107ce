"""Recognises clients that take no pieces of tool calls, as Mistral's own API has none."""

_TAKE_CALLS_WHOLE = b"mistral-client-", b"langchain4j-mistral-ai", b"ai-sdk/mistral/"
"""What their `User-Agent` begins with."""
_SEMANTIC_KERNEL = b"Semantic-Kernel"
"""The whole `User-Agent` of Semantic Kernel's connector for Mistral, with which that of its
connector for OpenAI begins."""


def takes_calls_whole(agent: bytes, cache_control: bytes, has_usage_options: bool) -> bool:
    """Returns whether the client with that `User-Agent` loses calls that are streamed in pieces.
    `has_usage_options` is whether it says if it wants the stream's usage."""
    if agent.startswith(b"python-httpx/"):
        # LangChain's ChatMistralAI has no name: its headers are those of httpx-sse over httpx.
        return cache_control == b"no-store"
    if agent.startswith(b"opencode/"):
        # It replaces the name of its provider, of which all but Mistral's ask for the usage.
        return not has_usage_options
    return agent == _SEMANTIC_KERNEL or agent.startswith(_TAKE_CALLS_WHOLE)
