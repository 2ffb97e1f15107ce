"""Runs one client's program in the clients' environment, and prints what it saw as JSON.

`python -m tests.e2e.clients NAME`, with the service's address and two images in the environment. A
program has ``APIS``, which make its client for each API, and ``STEPS``, which use that; its client
``CANNOT`` do some steps over some APIs.
"""

import asyncio
import importlib
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

from tests.e2e.clients import loopback, questions


def seen(step: Callable[[Any], Any], make: Any) -> Any:
    """What a step returned, or the exception that the client raised to its caller."""
    questions.called.clear()
    print(step.__name__, file=sys.stderr, flush=True)
    try:
        result = step(make)
        answer = asyncio.run(result) if inspect.iscoroutine(result) else result
        return {"answer": answer, "called": questions.called[:]}
    except Exception as error:
        traceback.print_exc()
        names = [f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(error).__mro__]
        return {"raised": names, "says": str(error)}


def main(name: str) -> None:
    loopback.keep_to_it()
    program = importlib.import_module(f"tests.e2e.clients.programs.{name}")
    cannot = getattr(program, "CANNOT", {})
    answers = {
        api: {
            step.__name__: seen(step, make)
            for step in program.STEPS
            if step not in cannot.get(api, ())
        }
        for api, make in program.APIS.items()
    }
    print(json.dumps({"seen": answers, "reached": loopback.reached}))


if __name__ == "__main__":
    main(sys.argv[1])
