"""What vLLM's processes log while an engine starts: how long each phase took, and the root cause of
a failure, for which vLLM's own exception only points at the log.

Ray gives each worker a file for stdout and one for stderr, and vLLM's processes inherit both.
"""

import contextlib
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client import Gauge

_TAIL_BYTES = 1 << 20
_LONGEST = 400
_LINE = re.compile(r"(?:\([\w. -]+\bpid=\d+\) )?(?:([A-Z]+) [\d-]+ [\d:]+ \[[\w.]+:\d+\] )?(.*)")
"""The level and the text of a line of vLLM's log; without a level it is from a plain traceback."""
_FRAME = re.compile(r'^ +File "(?:.*/)?([^/]+/[^/]+/[^/]+)", line (\d+)')
_POINTER = re.compile(r"root cause|See stack trace|^SystemExit")
_INSTEAD = "During handling of the above exception, another exception occurred:"
_NOT_LOADED = re.compile(r"Failed to import from vllm.*")
"""A warning of a library that the image lacks, after which vLLM fails in another place."""
_EXIT_CODE = re.compile(r"proc\(s\): \{'\w+': -(\d+)")
_WEIGHTS = re.compile(r"Model loading took .* and ([\d.]+) seconds|Loading weights took ([\d.]+) s")
_INIT = re.compile(r"init engine \(.*\) took ([\d.]+) s(?: \(compilation: ([\d.]+) s)?")

START_SECONDS = Gauge(
    "mistral_serve_engine_start_seconds",
    "The duration of each phase of this engine's start.",
    ["model_name", "phase"],
)
"""Registered in the default registry, which vLLM's own /metrics exposes."""


class StartError(RuntimeError):
    """An engine did not start; the message has the root cause."""


@contextlib.contextmanager
def root_cause_raised() -> Iterator[None]:
    """Raises a StartError in place of an exception of vLLM that only points at the log."""
    try:
        yield
    except Exception as error:
        if not _POINTER.search(str(error)):
            raise
        if why := root_cause(own_log()) or killed(str(error)):
            file = Path("/proc/self/fd/1").readlink().name
            raise StartError(f"{why}; log: {file}") from error
        raise


def own_log(since_bytes: Mapping[Path, int] | None = None) -> str:
    """The end of what this process and its children wrote, if it is in files: since an earlier
    `log_bytes`, if that is given."""
    text = ""
    for path, size in log_bytes().items():
        with path.open("rb") as file:
            begin = 0 if since_bytes is None else since_bytes.get(path, 0)
            file.seek(max(begin, size - _TAIL_BYTES))
            text += file.read().decode(errors="replace") + "\n"
    return text


def log_bytes() -> dict[Path, int]:
    """The sizes of the files that this process and its children write their logs to."""
    paths = (Path(f"/proc/self/fd/{fd}") for fd in (1, 2))
    return {path: path.stat().st_size for path in paths if path.is_file()}


def root_cause(log: str) -> str:
    """The last line of the first traceback that is not about another one, and its place in the
    code; "" without any."""
    found: list[str] = []
    frame, inside, instead, not_loaded = "", False, False, ""
    for line in log.splitlines():
        level, text = _LINE.match(line).groups("ERROR")  # type: ignore[union-attr]
        if text.startswith("Traceback (most recent call last)"):
            inside, frame = level in ("ERROR", "CRITICAL"), ""
        elif match := _FRAME.match(text):
            frame = f" ({match[1]}:{match[2]})"
        elif inside and text[:1].strip():
            inside = False
            if not _POINTER.search(text):
                cause = text[:_LONGEST] + frame
                found = [cause] if instead and len(found) == 1 else [*found, cause]
            instead = False
        elif text == _INSTEAD:
            instead = True
        elif match := _NOT_LOADED.search(text):
            not_loaded = f"; before that: {match[0][:_LONGEST]}"
    return found[0] + not_loaded if found else ""


def killed(error: str) -> str:
    """Says which signal ended vLLM's process, by vLLM's exception; "" if none did."""
    match = _EXIT_CODE.search(error)
    if match is None:
        return ""
    name = signal.Signals(int(match[1])).name
    hint = ": too little memory? Raise the pod's limits.memory" if name == "SIGKILL" else ""
    return f"vLLM's engine process was killed by {name}{hint}"


def phases(log: str, total_s: float) -> dict[str, float]:
    """The seconds of each phase of a start that took `total_s`, by vLLM's log of it. `other` has
    imports and the start of processes."""
    weights = [float(match[1] or match[2]) for match in _WEIGHTS.finditer(log)]
    init = _INIT.search(log)
    compile_s = float(init[2] or 0) if init else 0.0
    found = {
        "weights": max(weights, default=0.0),
        "compile": compile_s,
        "warm_up": float(init[1]) - compile_s if init else 0.0,
    }
    return found | {"other": max(0.0, total_s - sum(found.values()))}


def export(model_name: str, total_s: float) -> None:
    """Exports the phases of this engine's start."""
    for phase, seconds in phases(own_log(), total_s).items():
        START_SECONDS.labels(model_name, phase).set(seconds)
