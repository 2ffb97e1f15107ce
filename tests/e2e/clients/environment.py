"""The environment that the clients' programs run in, made from its lock once and kept."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.service import ROOT

LOCKS = ROOT / "deploy/requirements"
LOCK = LOCKS / "clients.txt"
FOLDER = ROOT / ".venv-clients"
QUIET = {
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "LANGSMITH_TRACING": "false",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""What has the clients send nothing to anyone but the service."""


def python() -> Path:
    """Returns the interpreter that has the clients. Skips the test if they cannot be installed."""
    want = hashlib.sha256(f"{FOLDER} {sys.version} {LOCK.read_text()}".encode()).hexdigest()
    complete = FOLDER / ".complete"
    interpreter = FOLDER / "bin/python"
    if complete.is_file() and complete.read_text() == want:
        return interpreter
    complete.unlink(missing_ok=True)
    uv = Path(sys.executable).with_name("uv")
    install = (
        f'eval "$({sys.executable} {LOCKS}/pip_to_uv.py)"\n'
        f"{uv} venv --quiet --clear --python {sys.executable} {FOLDER} && exec {uv} pip install"
        f" --quiet --python {interpreter} --no-deps --require-hashes --requirement {LOCK}"
    )
    result = subprocess.run(["bash", "-c", install], capture_output=True, text=True, timeout=900)
    if result.returncode != 0:
        assert "hash" not in result.stderr.lower(), result.stderr
        pytest.skip(f"the clients cannot be installed: {result.stderr[-500:]}")
    complete.write_text(want)
    return interpreter


def run(name: str, url: str, images: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a client's program on the service at this address."""
    # A key of the user's would make some clients send traces with it.
    inherited = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    return subprocess.run(
        [python(), "-m", "tests.e2e.clients", name],
        env={**inherited, **QUIET, **images, "SERVICE_URL": url, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
