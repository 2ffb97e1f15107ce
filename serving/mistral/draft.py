"""A request while the rules are applied to it."""

import datetime
from typing import Any

from serving.mistral.rules import ModelRules, Reasoning

Fields = dict[str, Any]
"""A JSON object of unvalidated shape: the engine validates it, after the rules."""


class Draft:
    """The fields of a request while rules are applied to them, and what the rules produce besides.

    Rules edit `fields` in place and set `changed`.
    """

    __slots__ = (
        "_objects",
        "changed",
        "fields",
        "incomplete_calls",
        "max_tokens_clamped",
        "originals",
        "reasoning",
        "rules",
        "today",
        "warnings",
    )

    def __init__(self, fields: Fields, rules: ModelRules, today: datetime.date) -> None:
        self.fields = fields
        self._objects: list[Fields] = []  # the last list that was found to hold objects alone
        self.rules = rules
        self.today = today
        self.changed = False
        self.warnings: list[str] = []
        self.max_tokens_clamped: int | None = None
        self.originals: dict[str, str] = {}
        self.incomplete_calls = False
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
        """Adds a warning for the client; it must never contain what the client wrote."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def objects(self, name: str) -> list[Fields]:
        """Returns the list of objects in that field; empty if it is anything else."""
        value = self.fields.get(name)
        if value is not self._objects:
            if type(value) is not list or not all(type(item) is dict for item in value):
                return []
            self._objects = value
        return self._objects

    def replace(self, name: str, items: list[Fields]) -> None:
        """Replaces a list that `objects` returned, if `items` differ. A list that would become
        empty stays, as the engine's error on it is clearer."""
        before = self.objects(name)
        same = len(items) == len(before) and all(
            new is old for new, old in zip(items, before, strict=True)
        )
        if items and not same:
            self.set(name, items)


def objects_in(value: Any) -> list[Fields]:
    """Returns the objects among the items of a list; none for anything else."""
    return [item for item in value if type(item) is dict] if type(value) is list else []
