"""Vercel's AI SDK, each of its providers for the service's APIs, against the service."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from serving import model_cards as doc
from tests.e2e.images import solid
from tests.e2e.service import MODEL, Service

FILES = Path(__file__).parent / "vercel"
UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH")
"""npm's errors where there is no registry of packages."""

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with the packages of its lock installed."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    folder = tmp_path_factory.mktemp("vercel")
    shutil.copytree(
        FILES, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules")
    )
    done = subprocess.run(
        [npm, "ci", "--ignore-scripts"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    if any(code in done.stderr for code in UNREACHABLE):
        pytest.skip("the packages cannot be fetched here")
    assert done.returncode == 0, done.stderr
    return folder


def test_every_provider_has_every_answer(folder: Path, service: Service) -> None:
    facts = {
        "url": service.url,
        "model": MODEL,
        "weather": doc.WEATHER_PROMPT,
        "tools": doc.WEATHER_TOOLS,
        "arguments": doc.WEATHER_ARGUMENTS,
        "capital": "Give me the capital of France as JSON.",
        "equations": doc.EQUATIONS_PROMPT,
        "calculator": doc.CALCULATOR_TOOLS,
        "expressions": [arguments["expression"] for arguments in doc.EQUATIONS_ARGUMENTS],
        "results": doc.EQUATIONS_RESULTS,
        "answer": doc.EQUATIONS_ANSWER,
        "question": "What color is this image?",
        "image": solid("red"),
        "color": "red",
    }
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", "clients.mjs"],
        cwd=folder,
        env={**os.environ, "FACTS": json.dumps(facts)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-6000:]
