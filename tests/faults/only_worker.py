"""Drains the only worker of a cluster, as its pod does before it ends, while an answer is streamed.
Prints the answer's end, once the worker has drained soon after it.

Run by test_only_worker.py, in a process of its own so that its Ray stays apart.
"""

import subprocess
import sys

import httpx

from tests.faults.deployed import MODEL
from tests.faults.two_nodes import running

_WITHIN_S = 600
"""Serve by itself would stop the replicas after 330 s, as they may drain for 240 s."""
_SOON_S = 60
_DRAIN = """
import importlib, psutil, sys
drain_node = importlib.import_module("serving.cli.drain_node")
pod = psutil.Process(int(sys.argv[1]))
psutil.process_iter = lambda: [pod, *pod.children(recursive=True)]
drain_node.drain_node(int(sys.argv[2]))
"""
_QUESTION = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Count."}],
    "max_tokens": 200,
    "stream": True,
}


def main() -> None:
    with running(max_waiting=10) as app:
        app.deploy(routers=1, engines=2)
        url = f"http://127.0.0.1:{app.port}/v1/chat/completions"
        with httpx.stream("POST", url, json=_QUESTION, timeout=120) as answer:
            lines = answer.iter_lines()
            next(lines)
            command = [sys.executable, "-c", _DRAIN, str(app.worker.pid), str(_WITHIN_S)]
            drain = subprocess.Popen(command, stdout=sys.stderr)
            *_, end = (line for line in lines if line)
        drain.wait(_SOON_S)
        print(end)


if __name__ == "__main__":
    main()
