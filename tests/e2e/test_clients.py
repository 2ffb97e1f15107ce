"""The programs that the README links, and its first command, run unchanged against the service.

Only the address is replaced. LangChain's program runs in the environment of the client libraries.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import documents
from tests.e2e.clients import environment
from tests.e2e.service import Service

SNIPPETS = Path(__file__).parent / "snippets"
ADDRESS = "http://127.0.0.1:8000"
CAPITAL = {"country": "France", "capital": "Paris"}
Run = Callable[..., str]


@pytest.fixture
def run(service: Service) -> Run:
    """Runs a program, with the service's address in place of the usual one; returns its output."""

    def run(code: str, *interpreter: str) -> str:
        assert ADDRESS in code
        result = subprocess.run(
            [*interpreter, "-c", code.replace(ADDRESS, service.url)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-2000:]
        return result.stdout

    return run


def python(run: Run, name: str) -> str:
    return run((SNIPPETS / name).read_text(), sys.executable)


def test_the_readmes_first_request_gets_its_answer(run: Run) -> None:
    blocks = list(documents.blocks((documents.ROOT / "README.md").read_text()))
    (request,) = [block for _, block in blocks if block.startswith("curl ")]
    (shown,) = [json.loads(block) for language, block in blocks if language == "json"]
    answer = json.loads(run(request, "bash"))
    assert shown.keys() <= answer.keys()
    assert (answer["object"], answer["model"]) == (shown["object"], shown["model"])
    (choice,), (shown_choice,) = answer["choices"], shown["choices"]
    assert choice["finish_reason"] == shown_choice["finish_reason"]
    content = json.loads(choice["message"]["content"])
    assert content == json.loads(shown_choice["message"]["content"]) == CAPITAL
    assert answer["usage"].keys() >= shown["usage"].keys()


@pytest.mark.parametrize("name", ["openai_chat.py", "anthropic_messages.py"])
def test_a_client_streams_an_answer(run: Run, name: str) -> None:
    assert json.loads(python(run, name)) == CAPITAL


@pytest.mark.full
def test_langchain_streams_an_answer(run: Run) -> None:
    code = (SNIPPETS / "langchain_chat.py").read_text()
    assert json.loads(run(code, str(environment.python()))) == CAPITAL


def test_a_batch_is_answered(run: Run) -> None:
    answers = [json.loads(answer) for answer in python(run, "openai_batch.py").splitlines()]
    assert CAPITAL in answers and len(answers) == 2


def test_a_function_is_called_and_its_result_answered(run: Run) -> None:
    call, *answer = python(run, "openai_tools.py").splitlines()
    assert call == "calling rewrite"
    assert "OpenAI is a FOR-profit company." in answer


def test_curl_streams_an_answer(run: Run) -> None:
    events = run((SNIPPETS / "curl_stream.sh").read_text(), "bash").split("\n\n")
    assert events[-2] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert len(chunks) > 2
    assert json.loads(text) == CAPITAL
