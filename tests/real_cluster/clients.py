"""The clients of a service, in a pod beside it: `python -m tests.real_cluster.clients --help`.

They stream until they are told to stop, and then print the outcome. Files in a folder say how far
they are: `begun` appears once all of them stream, `struck` and `stop` come from outside.
"""

import argparse
import asyncio
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.load import Load, Question

BEGUN, STRUCK, STOP = "begun", "struck", "stop"
_TEXTS = ("Count from 1 to 100.", "Repeat the word hello forever.")
_LOOK_EVERY_S = 0.1
_PATIENCE_S = 600
_LONGEST_S = 7200
_FAULTS = 5


async def stream(load: Load, streams: int, tokens: int, folder: Path) -> dict[str, Any]:
    """The outcome of the streams of as many clients, each compared with an answer before them."""
    asked = [
        Question(_TEXTS[n % len(_TEXTS)], tokens, ignore_eos=n % len(_TEXTS) > 0)
        for n in range(streams)
    ]
    undisturbed = {question: await load.ask(question) for question in {*asked}}
    for question, answer in undisturbed.items():
        if answer.status != 200 or answer.ends != 1:
            raise SystemExit(f"{question} was not answered: {answer}")
    load.answers.clear()
    load.start(asked)
    await _until(lambda: sum(len(each.chunks_s) > 1 for each in load.in_flight) == streams)
    (folder / BEGUN).touch()
    await _until((folder / STRUCK).exists)
    in_flight = len(load.in_flight)
    await _until((folder / STOP).exists)
    await load.stop(_PATIENCE_S)
    verdicts = [(answer, answer.verdict(undisturbed[answer.question])) for answer in load.answers]
    counts = Counter(verdict for _, verdict in verdicts)
    return {
        "in_flight": in_flight,
        "answers": len(verdicts),
        "refused": counts["refused"],
        "dropped": counts["dropped"] + counts["broken"],
        "truncated": counts["truncated"],
        "silence_s": max(answer.longest_silence_s for answer in load.answers),
        "faults": [
            f"{verdict}: status {answer.status}, {len(answer.chunks_s)} chunks, "
            f"error {answer.error!r}, {answer.headers}"
            for answer, verdict in verdicts
            if verdict not in ("good", "refused")
        ][:_FAULTS],
    }


async def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _LONGEST_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise SystemExit(f"nothing happened for {_LONGEST_S} s")
        await asyncio.sleep(_LOOK_EVERY_S)


def replicas(host: str, port: int, model: str) -> list[str]:
    """The engines that a router knows; none if it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/-/status", timeout=5) as response:
            found = json.load(response)["models"][model]["replicas"]
    except (OSError, ValueError, KeyError):
        return []
    return sorted(each["replica"] for each in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("model")
    parser.add_argument(
        "--streams", type=int, default=0, help="0: only say which engines there are"
    )
    parser.add_argument("--tokens", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/clients"))
    args = parser.parse_args()
    if not args.streams:
        print(json.dumps(replicas(args.host, args.port, args.model)))
        return
    args.folder.mkdir(parents=True)
    load = Load(args.port, args.model, host=args.host, patience_s=_PATIENCE_S)
    print(json.dumps(asyncio.run(stream(load, args.streams, args.tokens, args.folder))))


if __name__ == "__main__":
    main()
