"""The requests of coding agents in `turns/`, one file a turn.

They were written anew after the agents' public sources: the fields and forms are theirs, the texts
are not. A file says what must become of its request, so that a turn that goes wrong is one more
file:

- `prompt`: the `roles` of the messages and the `tools` in the prompt, in their order; `texts` that
  it has, and texts that must be `absent`; the number of `images`; whether the answer is `continued`
  from the last message. A text completion has none.
- `warnings`: a piece of each warning that the client gets, in their order.
- `refused`: the field that a 400 names, in place of all of those.
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REASONING = "reasoning of earlier turns"
"""A warning that a model gets no more where it reasons itself."""


@dataclass(frozen=True)
class Prompt:
    """What the prompt of a turn must be."""

    roles: list[str]
    tools: list[str]
    texts: list[str]
    absent: list[str] = field(default_factory=list)
    images: int = 0
    continued: bool = False


@dataclass(frozen=True)
class Turn:
    """A request, and what must become of it."""

    name: str
    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    prompt: Prompt | None
    warnings: list[str]
    refused: str | None

    @property
    def endpoint(self) -> str:
        return self.path.partition("?")[0]

    def request(self, **fields: Any) -> dict[str, Any]:
        """Returns a body of its own, with those fields in place of the turn's."""
        return copy.deepcopy(self.body) | fields


def _turn(file: Path) -> Turn:
    given = yaml.safe_load(file.read_text())
    prompt = given.pop("prompt", None)
    absent: dict[str, Any] = {"warnings": [], "refused": None}
    return Turn(name=file.stem, prompt=Prompt(**prompt) if prompt else None, **{**absent, **given})


TURNS = [_turn(file) for file in sorted((Path(__file__).parent / "turns").glob("*.yaml"))]
