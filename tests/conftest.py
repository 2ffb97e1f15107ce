"""What holds for all tests."""

import os
from pathlib import Path

import pytest

from serving.tiny.cache import cache_root

# torch makes this folder as soon as a test imports its compiler, by default in /tmp.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_root() / "torchinductor"))

_TESTS = Path(__file__).parent
_WITH_SERVICES = ("e2e", "faults")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts services stays with one worker, for all of it shares one, and some look for what
    another left behind. It waits much of its time, in which the others do the rest."""
    for item in items:
        if item.path.relative_to(_TESTS).parts[0] in _WITH_SERVICES:
            item.add_marker(pytest.mark.xdist_group("services"))
