"""Batches through the shared service."""

import signal
import subprocess
from pathlib import Path

from tests.e2e.batches import Line, batch, chat, read, request, write
from tests.e2e.service import COMMAND, Service
from tests.support.waiting import wait_for


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
