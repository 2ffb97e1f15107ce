"""A Dockerfile, parsed."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """One FROM and the instructions below it, as (name, rest of the line)."""

    base: str
    name: str | None
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, name: str) -> list[str]:
        return [rest for instruction, rest in self.instructions if instruction == name]

    @property
    def environment(self) -> dict[str, str]:
        words = [word for rest in self.of("ENV") for word in shlex.split(rest)]
        return dict(word.split("=", 1) for word in words)

    @property
    def copies(self) -> list[tuple[dict[str, str], list[str], str]]:
        """The flags, sources and target of each COPY."""
        found = []
        for rest in self.of("COPY"):
            words = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
            flags = dict(w[2:].split("=", 1) for w in words if w.startswith("--"))
            *sources, target = [word for word in words if not word.startswith("--")]
            found.append((flags, sources, target))
        return found


def parse(path: Path) -> tuple[dict[str, str], list[Stage]]:
    """The ARGs before the first stage, with their defaults filled into each FROM, and the stages.
    Raises ValueError.
    """
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.M))
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction != instruction.upper() or not rest:
            raise ValueError(f"no instruction: {line}")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            for key, value in arguments.items():
                base = base.replace(f"${{{key}}}", value)
            stages.append(Stage(base, name or None))
        elif stages:
            stages[-1].instructions.append((instruction, rest.strip()))
        elif instruction == "ARG":
            key, _, value = rest.partition("=")
            arguments[key] = value
        else:
            raise ValueError(f"before the first FROM: {line}")
    return arguments, stages
