"""The locks in deploy/requirements, as the tests read them."""

import re
from pathlib import Path

from packaging.requirements import Requirement

REQUIREMENTS = Path(__file__).parents[2] / "deploy/requirements"
CPU = ("torch-cpu", "cpu")
"""The locks of a machine without a GPU, which share no package."""


def pins(*locks: str) -> dict[str, str]:
    """Versions by package of all these locks together."""
    texts = ((REQUIREMENTS / f"{lock}.txt").read_text() for lock in locks)
    return dict(pin for text in texts for pin in re.findall(r"^([\w.-]+)==(\S+)", text, re.M))


def direct(file: str) -> list[Requirement]:
    """The requirements that an `.in` file and those that it includes state."""
    found: list[Requirement] = []
    for line in (REQUIREMENTS / file).read_text().splitlines():
        text = line.split("#")[0].strip()
        if text.startswith("-r "):
            found += direct(text.removeprefix("-r "))
        elif text:
            found.append(Requirement(text))
    return found
