"""Batches through the shared service, and through a service that the command starts."""

import json
import os
import secrets
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.service import COMMAND, MODEL, Service, temporary_files
from tests.support.waiting import wait_for

Line = dict[str, Any]


def request(custom_id: str, url: str, **body: Any) -> Line:
    body = {"model": MODEL, "temperature": 0, **body}
    return {"custom_id": custom_id, "method": "POST", "url": f"/v1/{url}", "body": body}


def chat(custom_id: str, text: str, **fields: Any) -> Line:
    messages = [{"role": "user", "content": text}]
    return request(custom_id, "chat/completions", messages=messages, **fields)


def mixed() -> list[Line]:
    """Fifty lines for all three endpoints, of which the service rejects one."""
    lines = []
    for number in range(17):
        text = f"Count from 1 to {3 + number}."
        lines.append(chat(f"chat-{number}", text))
        lines.append(request(f"text-{number}", "completions", prompt=text, max_tokens=8))
        lines.append(request(f"response-{number}", "responses", input=text, max_output_tokens=16))
    lines[-1] = chat("bad", "Hello", temperature=-7)
    return lines[1:]


def write(path: Path, lines: list[Line]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path: Path) -> dict[str, Line]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    by_id = {line["custom_id"]: line for line in lines}
    assert len(by_id) == len(lines)
    return by_id


def batch(*args: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "batch", *args],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_fifty_mixed_lines_of_which_one_is_bad(service: Service, tmp_path: Path) -> None:
    lines = mixed()
    assert len(lines) == 50
    source, out = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    result = batch(source, out, "--url", service.url)
    assert result.returncode == 1, result.stderr
    assert "49 of 50 lines answered" in result.stderr and "bad: 400" in result.stderr
    answers = read(out)
    assert set(answers) == {line["custom_id"] for line in lines} - {"bad"}
    for custom_id, answer in answers.items():
        assert answer["response"]["status_code"] == 200 and answer["response"]["request_id"]
        kind = custom_id.split("-")[0]
        assert answer["response"]["body"]["object"] == {
            "chat": "chat.completion",
            "text": "text_completion",
            "response": "response",
        }.get(kind)
    message = answers["chat-7"]["response"]["body"]["choices"][0]["message"]
    assert message["content"].startswith("1, 2, 3")
    (failure,) = read(tmp_path / "out.errors.jsonl").values()
    assert failure["custom_id"] == "bad" and failure["response"]["status_code"] == 400
    assert failure["response"]["body"]["error"]["message"]


def test_a_killed_run_goes_on_where_it_stopped(service: Service, tmp_path: Path) -> None:
    text = "Repeat the word hello forever."
    source = write(
        tmp_path / "in.jsonl", [chat(str(number), text, max_tokens=100) for number in range(40)]
    )
    out = tmp_path / "out.jsonl"
    options = ("--url", service.url, "--concurrency", "4")
    process = subprocess.Popen([COMMAND, "batch", source, out, *options], stderr=subprocess.DEVNULL)

    def answered() -> int:
        return out.read_bytes().count(b"\n") if out.exists() else 0

    wait_for(lambda: answered() >= 4, 120, "some lines are answered")
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = out.read_bytes().splitlines(keepends=True)[: answered()]
    assert 4 <= len(before) < 40

    result = batch(source, out, *options)
    assert result.returncode == 0, result.stderr
    assert out.read_bytes().splitlines(keepends=True)[: len(before)] == before
    assert set(read(out)) == {str(number) for number in range(40)}


@pytest.mark.full
def test_a_model_of_its_own_leaves_nothing_behind(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [chat("a", "Hello"), chat("b", "Count from 1 to 5.")])
    out = tmp_path / "out.jsonl"
    files, mark = temporary_files(), secrets.token_hex(16)
    result = batch(source, out, "--model", "tiny-mistral-small-3.2", BATCH_TEST=mark)
    assert result.returncode == 0, result.stderr
    assert f"{out}: 2 of 2 lines answered" in result.stderr
    assert set(read(out)) == {"a", "b"}
    assert [process for process in psutil.process_iter() if has_variable(process, mark)] == []
    assert temporary_files() <= files


def has_variable(process: psutil.Process, value: str) -> bool:
    """Whether an environment variable of the process has this value. Children inherit it."""
    try:
        return value in process.environ().values()
    except psutil.Error:
        return False
