"""Batch files, and the command that answers them."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.service import COMMAND, MODEL

Line = dict[str, Any]


def request(custom_id: str, url: str, **body: Any) -> Line:
    body = {"model": MODEL, "temperature": 0, **body}
    return {"custom_id": custom_id, "method": "POST", "url": f"/v1/{url}", "body": body}


def chat(custom_id: str, text: str, **fields: Any) -> Line:
    messages = [{"role": "user", "content": text}]
    return request(custom_id, "chat/completions", messages=messages, **fields)


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


def has_variable(process: psutil.Process, value: str) -> bool:
    """Whether an environment variable of the process has this value. Children inherit it."""
    try:
        return value in process.environ().values()
    except psutil.Error:
        return False
