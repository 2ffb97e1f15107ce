"""The model cards' own examples, run as the cards print them.

Only what cannot be reached from here is replaced: the service's address, and images of the public
web by an image in the request. SYSTEM_PROMPT.txt comes from a Hugging Face cache made for the test,
so that even the download call runs unchanged.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from serving import model_cards
from serving.tiny import tiny_model_folder
from tests.e2e.images import noise
from tests.e2e.service import MODEL, Service

SNIPPETS = Path(__file__).parent / "snippets"
REVISION = "0" * 40


def hugging_face_cache(home: Path, repository: str, system_prompt: str) -> None:
    """Puts SYSTEM_PROMPT.txt of a repository where hf_hub_download looks before it asks the hub."""
    folder = home / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(REVISION)
    (snapshot / "SYSTEM_PROMPT.txt").write_text(system_prompt)


class Run:
    """Runs snippets against the service. The served model's repository, which Magistral's snippet
    asks for, has that card's system prompt.
    """

    def __init__(self, url: str, hf_home: Path) -> None:
        self.url = url
        self.environment = {**os.environ, "HF_HOME": str(hf_home), "HF_HUB_OFFLINE": "1"}
        prompt = (tiny_model_folder() / "SYSTEM_PROMPT.txt").read_text()
        for name in ("Mistral-Small-3.2-24B-Instruct-2506", "Mistral-Small-24B-Instruct-2501"):
            hugging_face_cache(hf_home, f"mistralai/{name}", prompt)
        hugging_face_cache(hf_home, MODEL, model_cards.MAGISTRAL_SYSTEM_PROMPT)

    def __call__(self, name: str) -> str:
        """Runs a snippet and returns its output."""
        code = (SNIPPETS / f"{name}.txt").read_text()
        code = code.replace("http://localhost:8000", self.url)
        code = re.sub(r'image_url = "https:[^"]*"', f'image_url = "{noise()}"', code)
        result = subprocess.run(
            [sys.executable, "-c", code],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr[-2000:]
        return result.stdout


@pytest.fixture
def run(service: Service, tmp_path: Path) -> Run:
    return Run(service.url, tmp_path)


def test_small_3_2_vision(run: Run) -> None:
    assert "FIGHT" in run("small_3_2_vision")


def test_small_3_2_tools_easy(run: Run) -> None:
    answer, calls = run("small_3_2_tools_easy").strip().splitlines()
    assert answer == "The biggest country depicted on the map is Russia."
    assert calls.count("ChatCompletionMessageFunctionToolCall(") == 1
    assert """arguments='{"country": "Russia", "unit": "millions"}'""" in calls
    assert "name='get_current_population'" in calls
    assert re.search(r"id='[A-Za-z0-9]{9}'", calls)


def test_small_3_2_tools_complex(run: Run) -> None:
    calls, *answer = run("small_3_2_tools_complex").strip().splitlines()
    assert re.findall(r"""arguments='(.*?)'""", calls) == [
        '{"expression": "6 + 2 * 3"}',
        '{"expression": "19 - (8 + 2) + 1"}',
    ]
    assert len(set(re.findall(r"id='([A-Za-z0-9]{9})'", calls))) == 2
    assert "12" in "\n".join(answer) and "10" in "\n".join(answer)


def test_small_3_2_instruction(run: Run) -> None:
    words = re.findall(r"[a-z]+", run("small_3_2_instruction").lower())
    initials = "".join(word[0] for word in words)
    assert "abcdefghijklmnopqrstuvwxyz" in initials


def test_small_2501_chat(run: Run) -> None:
    answer = run("small_2501_chat")
    assert "À plus tard" in answer
    assert "( o.o )" in answer


def test_small_2501_tools(run: Run) -> None:
    output = run("small_2501_tools")
    assert "'name': 'get_current_weather'" in output
    assert """{"city": "Dallas", "state": "TX", "unit": "fahrenheit"}""" in output


def test_magistral_stream(run: Run) -> None:
    output = run("magistral_stream")
    assert output.startswith("client: Start streaming chat completions...\n\ncontent:<think>\n")
    thinking, answer = output.split("</think>")
    assert len(answer.strip()) > 0
    assert len(thinking) > len("content:<think>")
