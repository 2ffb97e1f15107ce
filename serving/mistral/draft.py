"""A request on its way through the rules."""

import datetime
from typing import Any

from serving.mistral.rules import ModelRules, Reasoning

Fields = dict[str, Any]
"""A JSON object. Nothing of its shape is certain: the engine validates, after the rules."""


class Draft:
    """The fields of a request while rules are applied to them, and what the rules leave behind.

    Rules edit `fields` in place and say so by `changed`.
    """

    __slots__ = (
        "answer_ids",
        "changed",
        "fields",
        "max_tokens_clamped",
        "named_tool",
        "reasoning",
        "rules",
        "today",
        "warnings",
    )

    def __init__(self, fields: Fields, rules: ModelRules, today: datetime.date) -> None:
        self.fields = fields
        self.rules = rules
        self.today = today
        self.changed = False
        self.warnings: list[str] = []
        self.max_tokens_clamped: int | None = None
        self.answer_ids: dict[str, str] = {}
        self.named_tool = False
        self.reasoning: Reasoning = rules.reasoning

    def set(self, name: str, value: Any) -> None:
        self.fields[name] = value
        self.changed = True

    def drop(self, *names: str) -> None:
        for name in names:
            if name in self.fields:
                del self.fields[name]
                self.changed = True

    def warn(self, warning: str) -> None:
        """Adds to the warnings that the client is told; never holds what the client wrote."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def objects(self, name: str) -> list[Fields]:
        """The list of objects in that field; empty if it is anything else."""
        value = self.fields.get(name)
        if type(value) is list and all(type(item) is dict for item in value):
            return value
        return []

    def replace(self, name: str, items: list[Fields]) -> None:
        """Sets a list that `objects` gave, if `items` has others. A list that would become empty
        stays: the engine's error on it is the clearer one."""
        before = self.objects(name)
        same = len(items) == len(before) and all(
            new is old for new, old in zip(items, before, strict=True)
        )
        if items and not same:
            self.set(name, items)


def objects_in(value: Any) -> list[Fields]:
    """The objects among the items of a list; none of anything else."""
    return [item for item in value if type(item) is dict] if type(value) is list else []
