"""Drops optional fields that are null, which clients send for what they leave out: vLLM rejects
many of them and misreads others (`tool_choice` swallows a call, `truncation` cuts the prompt)."""

from collections.abc import Callable

from serving.mistral.draft import Draft, Fields, objects_in


def drop_null_fields(draft: Draft) -> None:
    draft.drop(*[name for name, value in draft.fields.items() if value is None])


def drop_nulls_in(field: str, *names: str) -> Callable[[Draft], None]:
    """Returns the rule for the objects in the list `field`: only for the fields `names`, as vLLM
    reads null correctly in the others, of which this service's own answers have several."""

    def rule(draft: Draft) -> None:
        for item in draft.objects(field):
            _drop(item, names, draft)

    return rule


def drop_nulls_in_items(draft: Draft) -> None:
    """Drops all null fields of the items of /v1/responses and of their parts."""
    for item in draft.objects("input"):
        _drop(item, tuple(item), draft)
        for part in objects_in(item.get("content")):
            _drop(part, tuple(part), draft)


def _drop(holder: Fields, names: tuple[str, ...], draft: Draft) -> None:
    for name in names:
        if name in holder and holder[name] is None:
            del holder[name]
            draft.changed = True
