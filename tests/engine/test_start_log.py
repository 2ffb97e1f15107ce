"""The root cause of a start that fails, and the phases of one that succeeds, from vLLM's log."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from serving.engine import start_log

WORKER = "(Worker_TP1 pid=64) ERROR 11-28 22:22:54 [multiproc_executor.py:953] "
CORE = "(EngineCore pid=32) ERROR 11-28 22:22:58 [core.py:1510] "
MAIN = "(MainProcess pid=7) WARNING 11-28 22:22:19 [cpu.py:645] "
FRAME = '  File "/x/site-packages/vllm/v1/worker/gpu_worker.py", line 12, in load_model'


def traceback(prefix: str, *end: str) -> str:
    lines = ("Traceback (most recent call last):", FRAME, "    model.to(device)", *end)
    return "".join(f"{prefix}{line}\n" for line in lines)


OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB."
POINTER = (
    "Exception: WorkerProc initialization failed due to an exception in a background process. "
    "See stack trace for root cause."
)
LOST = "OSError: We couldn't connect to 'https://huggingface.co'"


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        pytest.param(
            traceback(WORKER, OUT_OF_MEMORY) + traceback(CORE, POINTER) + traceback("", POINTER),
            OUT_OF_MEMORY,
            id="worker-before-the-core-that-points-at-it",
        ),
        pytest.param(
            traceback(MAIN, "ImportError: no triton") + traceback(CORE, "ValueError: no weights"),
            "ValueError: no weights",
            id="not-the-traceback-of-a-warning",
        ),
        pytest.param(
            traceback("", "KeyError: 1", "", start_log._INSTEAD, "") + traceback("", LOST),
            LOST,
            id="the-exception-that-took-the-place-of-another",
        ),
    ],
)
def test_the_root_cause_is_found_with_its_place(log: str, cause: str) -> None:
    assert start_log.root_cause(log) == f"{cause} (v1/worker/gpu_worker.py:12)"


def test_a_library_that_the_image_lacks_is_named_beside_what_failed_later() -> None:
    lacks = "Failed to import from vllm._C: ImportError('libnuma.so.1: cannot open shared object')"
    log = f"{MAIN}{lacks}\n" + traceback(CORE, "AttributeError: no attribute 'init_cpu_memory_env'")
    assert start_log.root_cause(log).endswith(f"; before that: {lacks}")


START = """
import multiprocessing, sys
from serving.engine.start_log import root_cause_raised

def engine_core():
    raise ValueError("the weights are cut off")

if __name__ == "__main__":
    core = multiprocessing.get_context("spawn").Process(target=engine_core)
    core.start()
    core.join()
    with root_cause_raised():
        raise RuntimeError("Engine core initialization failed. See root cause above. "
                           "Failed core proc(s): {'EngineCore': %s}" % sys.argv[1])
"""


def start(folder: Path, exit_code: int, code: str = START) -> str:
    """Starts an engine whose process fails, as a Ray worker does: with its output in files."""
    script, out, err = folder / "start.py", folder / "worker-1.out", folder / "worker-1.err"
    script.write_text(code)
    with out.open("w") as stdout, err.open("w") as stderr:
        command = [sys.executable, str(script), str(exit_code)]
        subprocess.run(command, stdout=stdout, stderr=stderr, check=False)
    return err.read_text().splitlines()[-1]


def test_an_engine_that_does_not_start_raises_what_its_process_wrote(tmp_path: Path) -> None:
    last = start(tmp_path, 1)
    assert last.startswith("serving.engine.start_log.StartError: ValueError: the weights are cut")
    assert last.endswith("start.py:6); log: worker-1.out")


def test_an_engine_process_that_is_killed_is_told_with_what_may_help(tmp_path: Path) -> None:
    last = start(tmp_path, -9, START.replace('raise ValueError("the weights are cut off")', "pass"))
    assert "was killed by SIGKILL: too little memory? Raise the pod's limits.memory" in last


LOG = """\
(Worker_TP0 pid=1) INFO 11-28 22:22:54 [default_loader.py:501] Loading weights took 20.50 seconds
(Worker_TP0 pid=1) INFO 11-28 22:22:54 [gpu_model_runner.py:5150] Model loading took 22.4 GiB \
memory and 31.250000 seconds
(EngineCore pid=2) INFO 11-28 22:22:56 [core.py:395] init engine (profile, create kv cache, \
warmup model) took 70.00 s (compilation: 48.50 s)
"""


def test_the_phases_of_a_start_are_exported_and_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_log, "own_log", lambda: LOG)
    start_log.export("m", 120.0)
    samples = {
        sample.labels["phase"]: sample.value
        for family in start_log.START_SECONDS.collect()
        for sample in family.samples
    }
    assert samples == {"weights": 31.25, "compile": 48.5, "warm_up": 21.5, "other": 18.75}


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("v1/engine/utils.py", "See root cause above. "),
        ("v1/engine/utils.py", 'f"Failed core proc(s): {finished}"'),
        ("v1/executor/multiproc_executor.py", "See stack trace for root cause."),
        ("v1/engine/core.py", '"init engine (profile, create kv cache, warmup model) took "'),
        ("v1/engine/core.py", '"%.2f s (compilation: %.2f s)"'),
        ("v1/worker/gpu_model_runner.py", '"Model loading took %s GiB memory and %.6f seconds"'),
        ("model_executor/model_loader/default_loader.py", '"Loading weights took %.2f seconds"'),
    ],
)
def test_vllm_logs_as_the_engine_reads_it(module: str, text: str) -> None:
    spec = importlib.util.find_spec("vllm")
    assert spec is not None and spec.origin is not None
    assert text in (Path(spec.origin).parent / module).read_text()
