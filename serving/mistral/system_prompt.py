"""The default system prompt, for models that have one enabled.

A system prompt sent by the client passes unchanged, formatted or not: half of the model cards' own
examples format SYSTEM_PROMPT.txt before sending it, the other half send the file with a literal
{name}, {today} and {yesterday} in it, and the models know both.
"""

import datetime
from collections.abc import Callable

from serving.mistral.draft import Draft, Fields
from serving.mistral.rules import ModelRules


def fill(template: str, model_id: str, today: datetime.date) -> str:
    """Formats the template as the model cards do; braces around anything else stay."""
    yesterday = today - datetime.timedelta(days=1)
    for name, value in (
        ("{name}", model_id.rsplit("/", 1)[-1]),
        ("{today}", today.isoformat()),
        ("{yesterday}", yesterday.isoformat()),
    ):
        template = template.replace(name, value)
    return template


def is_public(text: str, rules: ModelRules, today: datetime.date) -> bool:
    """Returns whether a system prompt is declared public, as written or formatted."""
    return any(
        text in (template, fill(template, rules.model_id, today))
        for template in rules.public_system_prompts
    )


def add_message(draft: Draft) -> None:
    """Prepends the default prompt to a chat's messages if none of them is a system message."""
    messages = draft.objects("messages")
    if draft.rules.system_prompt is not None and messages and not _has_system_message(messages):
        text = fill(draft.rules.system_prompt, draft.rules.model_id, draft.today)
        draft.set("messages", [{"role": "system", "content": text}, *messages])


def add_field(field: str, messages: str) -> Callable[[Draft], None]:
    """Returns the rule for an API that has a system prompt field beside its list of messages."""

    def rule(draft: Draft) -> None:
        if draft.rules.system_prompt is None or draft.fields.get(field) is not None:
            return
        if not _has_system_message(draft.objects(messages)):
            text = fill(draft.rules.system_prompt, draft.rules.model_id, draft.today)
            draft.set(field, text)

    return rule


def _has_system_message(messages: list[Fields]) -> bool:
    return any(message.get("role") in ("system", "developer") for message in messages)
