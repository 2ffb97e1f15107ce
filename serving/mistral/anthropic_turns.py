"""Rules for the messages of Anthropic's API, /v1/messages, which vLLM converts to a chat's."""

import itertools

from serving.mistral.draft import Draft, Fields
from serving.mistral.turns import is_empty

_THINKING = ("thinking", "redacted_thinking")


def drop_thinking_and_empty_turns(draft: Draft) -> None:
    """Drops thinking blocks of earlier turns, which tokenizers before v13 reject and Anthropic's
    API does not show to the model either, and empty assistant turns, which all tokenizers reject.
    """
    kept = []
    for message in draft.objects("messages"):
        if message.get("role") == "assistant":
            if draft.rules.tokenizer != "v13":
                _drop_thinking(message, draft)
            if is_empty(message):
                continue
        kept.append(message)
    draft.replace("messages", kept)


def _drop_thinking(message: Fields, draft: Draft) -> None:
    content = message.get("content")
    if type(content) is not list:
        return
    blocks = [b for b in content if type(b) is not dict or b.get("type") not in _THINKING]
    if len(blocks) < len(content):
        message["content"] = blocks
        draft.changed = True


def warn_of_late_system_turns(draft: Draft) -> None:
    """Warns of system messages after the first turn, which the engine shows the model as the
    user's."""
    roles = [message.get("role") for message in draft.objects("messages")]
    if "system" in itertools.dropwhile(lambda role: role == "system", roles):
        draft.warn("system messages after the first turn became the user's")
