"""Batches through a model in the command's own process."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from serving import model_cards as doc
from serving.tiny import tiny_model_folder
from tests.e2e.batches import Line, batch, chat, has_variable, read, request, write
from tests.e2e.images import solid
from tests.e2e.service import COMMAND, Service, running_processes, temporary_files
from tests.support.waiting import wait_for

pytestmark = pytest.mark.full

TINY = "tiny-mistral-small-3.2"
SCHEMA = {
    "type": "object",
    "properties": {"country": {"type": "string"}, "capital": {"type": "string"}},
    "required": ["country", "capital"],
    "additionalProperties": False,
}
CACHED = "cache_read_input_tokens"
OF_ONE_RUN = frozenset(
    {
        *("id", "call_id", "created", "created_at", "completed_at", "request_id"),
        *("cached_tokens", CACHED),
    }
)

CARD = """
from vllm import LLM, SamplingParams

if __name__ == "__main__":
    llm = LLM(
        model={folder!r},
        tokenizer_mode="mistral",
        tensor_parallel_size=2,
        enforce_eager=True,
        kv_cache_memory_bytes=2**27,
    )
    sampling_params = SamplingParams(max_tokens=512, temperature=0)
    outputs = llm.chat({messages!r}, sampling_params=sampling_params)
    print("ANSWER", ascii(outputs[0].outputs[0].text))
"""


def lines() -> list[Line]:
    """A line for each API and each form of answer, and lines that are refused."""
    tools = [doc.WEATHER_TOOL]
    message = {"role": "user", "content": doc.WEATHER_PROMPT}
    own_id = "call_of_another_service"
    call = {"name": "f", "arguments": "{}"}
    history = [
        message,
        {"role": "assistant", "tool_calls": [{"id": own_id, "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": own_id, "content": "81"},
    ]
    form = {"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA}}
    image = doc.image_message("What color is this image?", solid("red"))
    anthropic_tool = {
        "name": doc.WEATHER_TOOL["function"]["name"],
        "input_schema": doc.WEATHER_TOOL["function"]["parameters"],
    }
    return [
        chat("chat", "Hello"),
        chat("call", doc.WEATHER_PROMPT, tools=tools),
        chat("required", doc.WEATHER_PROMPT, tools=tools, tool_choice="required"),
        chat("schema", "Give me the capital of France as JSON.", response_format=form),
        chat("several", "Hello", n=2, logprobs=True, top_logprobs=2),
        chat("clamped", "Hello", max_tokens=10_000_000),
        request("image", "chat/completions", messages=[image]),
        request("history", "chat/completions", messages=history),
        request("text", "completions", prompt="Count from 1 to 5.", max_tokens=8),
        request("response", "responses", input="Hello"),
        request("message", "messages", messages=[message], max_tokens=99, tools=[anthropic_tool]),
        chat("hot", "Hello", temperature=-7),
        chat("unknown", "Hello", model="gpt-4"),
        request("unknown message", "messages", messages=[message], max_tokens=9, model="gpt-4"),
        request("endless", "responses", input="Hello", max_output_tokens=-1),
    ]


def without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: without_ids(each) for key, each in value.items() if key not in OF_ONE_RUN}
        if CACHED in value:  # which Anthropic's API leaves out of the prompt's tokens
            kept["input_tokens"] += value[CACHED]
        if "logprobs" in kept:  # the last digits depend on what else is in the batch
            kept["logprobs"] = bool(kept["logprobs"])
        return kept
    return list(map(without_ids, value)) if isinstance(value, list) else value


def answers(out: Path) -> dict[str, tuple[int, Any]]:
    both = read(out) | read(out.with_name("out.errors.jsonl"))
    return {
        name: (line["response"]["status_code"], without_ids(line["response"]["body"]))
        for name, line in both.items()
    }


def test_every_line_is_answered_as_by_the_service(service: Service, tmp_path: Path) -> None:
    asked = lines()
    source = write(tmp_path / "in.jsonl", asked)
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    here, there = tmp_path / "here/out.jsonl", tmp_path / "there/out.jsonl"
    assert batch(source, there, "--url", service.url).returncode == 1
    files, mark = temporary_files(), secrets.token_hex(16)
    result = batch(source, here, "--model", TINY, BATCH_TEST=mark)
    assert result.returncode == 1, result.stderr
    assert f"{here}: 11 of 15 lines answered" in result.stderr
    ours, theirs = answers(here), answers(there)
    assert set(ours) == {line["custom_id"] for line in asked}
    for name in ours:
        assert ours[name] == theirs[name], name
    assert [process for process in psutil.process_iter() if has_variable(process, mark)] == []
    assert temporary_files() <= files


def test_offline_use_as_the_card_has_it(tmp_path: Path) -> None:
    """`LLM.chat` and the batch give the answer that the card prints, on two workers each."""
    messages = [
        {"role": "system", "content": doc.CAT_SYSTEM_PROMPT},
        {"role": "user", "content": doc.FRENCH_PROMPT},
    ]
    script = tmp_path / "card.py"
    script.write_text(CARD.format(folder=str(tiny_model_folder("2501")), messages=messages))
    environment = {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_RPC_BASE_PATH": str(tmp_path),  # vLLM leaves its sockets behind
    }
    printed = subprocess.run(
        [sys.executable, script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert printed.returncode == 0, printed.stderr[-3000:]
    (answer,) = [line for line in printed.stdout.splitlines() if line.startswith("ANSWER ")]

    line = request("card", "chat/completions", messages=messages, max_tokens=512, model=None)
    source, out = write(tmp_path / "in.jsonl", [line]), tmp_path / "out.jsonl"
    settings = ("--model", "tiny-mistral-small-2501", "--set", "tensor_parallel_size=2")
    result = batch(source, out, *settings)
    assert result.returncode == 0, result.stderr
    message = read(out)["card"]["response"]["body"]["choices"][0]["message"]
    assert message["content"] == doc.FRENCH_ANSWER
    assert answer == f"ANSWER {doc.FRENCH_ANSWER!a}"


@contextmanager
def half_done(source: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of endless lines, one after another, that has answered some of them."""
    text = "Repeat the word hello forever."
    write(source, [chat(str(number), text, max_tokens=400) for number in range(60)])
    process = subprocess.Popen(
        [COMMAND, "batch", source, out, "--model", TINY, "--concurrency", "1"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # It is ignored where the tests run in the background of a shell.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") >= 2, 200, "some answers")
        yield process
    finally:
        if process.poll() is None:
            for each in psutil.Process(process.pid).children(recursive=True):
                each.kill()
            process.kill()
            process.communicate()


def test_ctrl_c_keeps_what_is_answered_and_stops_the_engine(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    with half_done(source, out) as process:
        others = psutil.Process(process.pid).children(recursive=True)
        names = {other.name() for other in others}
        assert not names & {"raylet", "gcs_server"} and others
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130, stderr
        assert "the same command continues from here" in stderr and "Traceback" not in stderr
        wait_for(lambda: not running_processes(others), 20, "the engine's processes have ended")
    kept = out.read_bytes()
    assert 2 <= kept.count(b"\n") < 60
    assert {line["response"]["status_code"] for line in read(out).values()} == {200}

    left = [line for line in map(json.loads, source.read_text().splitlines())]
    write(source, [line | {"body": line["body"] | {"max_tokens": 1}} for line in left])
    assert batch(source, out, "--model", TINY).returncode == 0
    assert out.read_bytes().startswith(kept) and len(read(out)) == 60


def test_a_killed_engine_ends_the_run_with_a_reason(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    with half_done(source, out) as process:
        for other in psutil.Process(process.pid).children(recursive=True):
            if "EngineCore" in " ".join(other.cmdline()):
                other.kill()
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 2
        assert "the engine died: " in stderr and "The same command continues" in stderr
        assert "Traceback" not in stderr
    assert len(read(out)) >= 2 and not out.with_name("out.errors.jsonl").exists()
