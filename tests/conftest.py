"""Orders the tests, and has none depend on the speed of the machine."""

import os
from pathlib import Path

import hypothesis
import pytest

# torch creates this folder when a test imports its compiler, by default in /tmp.
os.environ.setdefault(
    "TORCHINDUCTOR_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache/torchinductor")
)

hypothesis.settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.data_too_large,
    ],
)
hypothesis.settings.register_profile(
    "quick", hypothesis.settings.get_profile("untimed"), max_examples=50
)


def pytest_configure(config: pytest.Config) -> None:
    """Loads hypothesis' settings: half of its examples where slow tests are left out as well."""
    leaves_out_slow = config.getoption("markexpr") == "not full"
    hypothesis.settings.load_profile("quick" if leaves_out_slow else "untimed")


LATE = (
    "tests/faults/",
    "tests/e2e/test_autoscaling.py",
    "tests/e2e/",
    # It queries a Prometheus that has scraped the shared service with all its traffic.
    "tests/e2e/test_monitoring.py",
    # It ends the shared service with Ctrl-C; later tests start services of their own.
    "tests/e2e/test_lifecycle.py",
    "tests/e2e/test_backend.py",
    "tests/e2e/test_serve_run.py",
)
"""Tests that run after all others, in this order. A test belongs to the longest matching prefix of
its id."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place(item.nodeid))


def place(test_id: str) -> int:
    """Returns the test's position in LATE, counted from 1; 0 for tests that run first."""
    fitting = [late for late in LATE if test_id.startswith(late)]
    return 1 + LATE.index(max(fitting, key=len)) if fitting else 0
