"""What holds for all tests."""

import os

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from serving.tiny.cache import cache_root

# torch makes this folder as soon as a test imports its compiler, by default in /tmp.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_root() / "torchinductor"))


class _Workers(LoadScopeScheduling):  # type: ignore[misc]
    """A file's tests stay together. All that start services stay with one worker, for many share
    one, and some look for what another left behind; they wait much of their time, in which the
    other worker does the rest.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "services" if file.startswith(("tests/e2e/", "tests/faults/")) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _Workers(config, log)
