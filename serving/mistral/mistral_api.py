"""Accepts what Mistral's own API has and OpenAI's has not."""

from serving.mistral.draft import Draft

_IGNORED = ("safe_prompt", "prompt_mode")


def continue_prefix(draft: Draft) -> None:
    """Continues a last assistant message with `prefix: true`; elsewhere the field says nothing."""
    messages = draft.objects("messages")
    for message in messages:
        if "prefix" not in message:
            continue
        prefix = message.pop("prefix")
        draft.changed = True
        if prefix is True and message is messages[-1] and message.get("content"):
            draft.set("continue_final_message", True)
            draft.set("add_generation_prompt", False)


def rename_random_seed(draft: Draft) -> None:
    if "random_seed" in draft.fields:
        draft.fields.setdefault("seed", draft.fields["random_seed"])
        draft.drop("random_seed")


def ignore_prompt_settings(draft: Draft) -> None:
    """Drops settings for system prompts that Mistral's own service adds."""
    for name in _IGNORED:
        if draft.fields.get(name):
            draft.warn(f"{name} has no effect on this model and was dropped")
        draft.drop(name)
