"""Orders the tests, and trains the tiny models while tests that need none run."""

import os
import subprocess
import sys

import pytest

from serving.tiny import PRESETS, tiny_model_folder
from serving.tiny.cache import cache_root

# torch creates this folder when a test imports its compiler, by default in /tmp.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_root() / "torchinductor"))

LATE = (
    "tests/faults/",
    "tests/e2e/test_autoscaling.py",
    # From here on tests need the tiny models, which are trained meanwhile.
    "tests/e2e/",
    # It queries a Prometheus that has scraped the shared service with all its traffic.
    "tests/e2e/test_monitoring.py",
    # It ends the shared service with Ctrl-C; later tests start services of their own.
    "tests/e2e/test_lifecycle.py",
    "tests/e2e/test_backend.py",
    "tests/tiny/",
    "tests/e2e/test_serve_run.py",
)
"""Tests that run after all others, in this order. A test belongs to the longest matching prefix of
its id."""

_TRAIN = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that no half a model stays behind
from serving.tiny import PRESETS, ensure_tiny_model
for spec in PRESETS.values():
    ensure_tiny_model(spec)
"""
_training: list[subprocess.Popen[bytes]] = []


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place(item.nodeid))


def place(test_id: str) -> int:
    """Returns the test's position in LATE, counted from 1; 0 for tests that run first."""
    fitting = [late for late in LATE if test_id.startswith(late)]
    return 1 + LATE.index(max(fitting, key=len)) if fitting else 0


def pytest_collection_finish(session: pytest.Session) -> None:
    """Trains missing models in the background. A test that needs one waits for its lock, and trains
    it itself, with a visible error, if this failed."""
    if session.config.option.collectonly or all(
        tiny_model_folder(spec).is_dir() for spec in PRESETS.values()
    ):
        return
    if any(item.nodeid.startswith(("tests/tiny/", "tests/e2e/")) for item in session.items):
        _training.append(
            subprocess.Popen(
                ["nice", sys.executable, "-c", _TRAIN],
                # With more threads each would wait for the others at every step while tests use the
                # cores.
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )


def pytest_unconfigure() -> None:
    for process in _training:
        process.terminate()
        process.wait()
