"""What the router adds to a request: latency, and its own CPU time per request and per chunk.

`python -m tests.bench.relay` puts the same load on a stand-in engine directly, through the
router, and through a relay that only copies bytes, each in a process of its own, on loopback only.
The three take turns in each round, and what is reported of a case are medians over the rounds, so
that a noisy neighbour hits all alike. Linux only.
"""

import argparse
import asyncio
import contextlib
import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from serving.router.replicas.upstream import ConnectionPool
from tests.bench import relay_report
from tests.bench.relay_peers import PEERS, UnavailableError, peer
from tests.bench.relay_process import HOST, MODEL, Server, engine, relay
from tests.bench.relay_report import Case, Measured, Run

PATH = "/v1/chat/completions"
CONCURRENCIES = (1, 16, 100)
INTERVAL_S = 0.01
RUN_S = 5
"""Time after which no more requests are sent: a slow server answers fewer."""
RUN_LIMIT_S = 180


@dataclass(frozen=True, slots=True)
class Answer:
    """The times of one answer. `first_s` is when its first bytes arrived."""

    first_s: float
    whole_s: float
    body_bytes: int
    reads: int


def cases() -> list[Case]:
    """The cases. The unstreamed 1 kB ones come first: the streamed ones are compared with them."""
    counts = {
        ("1 kB", 900, 0): (1000, 3000, 3000),
        ("220 kB", 220_000, 0): (200, 400, 400),
        ("64 chunks", 900, 64): (1, 16, 100),
        ("200 chunks", 900, 200): (1, 16, 100),
    }
    return [
        Case(name, prompt_bytes, chunks, concurrency, requests)
        for (name, prompt_bytes, chunks), per_concurrency in counts.items()
        for concurrency, requests in zip(CONCURRENCIES, per_concurrency, strict=True)
    ]


def request_of(case: Case) -> tuple[bytes, bytes]:
    """Head and body of a case's requests, which are all equal."""
    message = {"role": "user", "content": "x" * case.prompt_bytes}
    fields: dict[str, Any] = {"model": MODEL, "messages": [message]}
    if case.chunks:
        fields |= {"stream": True, "max_tokens": case.chunks}
    body = json.dumps(fields).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: bench\r\nuser-agent: bench\r\naccept: */*\r\n"
        "authorization: Bearer EMPTY\r\ncontent-type: application/json\r\n"
        f"x-request-id: bench\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode(), body


async def ask(pool: ConnectionPool, head: bytes, body: bytes) -> Answer:
    began_s = time.perf_counter()
    connection = await pool.request(head, body)
    try:
        if connection.status != 200:
            raise RuntimeError(f"answered with status {connection.status}")
        piece = await connection.read()
        first_s = time.perf_counter() - began_s
        body_bytes = reads = 0
        while piece:
            body_bytes += len(piece)
            reads += 1
            piece = await connection.read()
        return Answer(first_s, time.perf_counter() - began_s, body_bytes, reads)
    finally:
        pool.release(connection)


async def whole_answer(server: Server, case: Case) -> bytes:
    pool = ConnectionPool(HOST, server.port, RUN_LIMIT_S)
    connection = await pool.request(*request_of(case))
    pieces = []
    while piece := await connection.read():
        pieces.append(piece)
    pool.release(connection)
    pool.close()
    return b"".join(pieces)


async def answer_bytes(case: Case, servers: Mapping[str, Server]) -> dict[str, int]:
    """The size of each server's right answer. Raises RuntimeError if one is not the engine's: of
    LiteLLM, which writes its own, if it has not as many chunks.
    """
    async with asyncio.timeout(RUN_LIMIT_S):
        answers = await asyncio.gather(*(whole_answer(s, case) for s in servers.values()))
    events = case.chunks + 2 if case.chunks else 0
    for name, answer in zip(servers, answers, strict=True):
        count = answer.count(b"data: ")
        if name == "LiteLLM" and events <= count + 1:
            continue
        if count != events or answer != answers[0]:
            raise RuntimeError(f"{name} does not pass the answer on as it is")
    return {name: len(answer) for name, answer in zip(servers, answers, strict=True)}


async def load(pool: ConnectionPool, case: Case, requests: int) -> list[Answer]:
    """Sends `requests` of the case, or as many as go in `RUN_S`; `case.concurrency` at a time, the
    next as one is answered."""
    head, body = request_of(case)
    answers: list[Answer] = []
    left = requests
    ends_s = time.monotonic() + RUN_S

    async def client() -> None:
        nonlocal left
        while left > 0 and time.monotonic() < ends_s:
            left -= 1
            answers.append(await ask(pool, head, body))

    async with asyncio.timeout(RUN_LIMIT_S), asyncio.TaskGroup() as clients:
        for _ in range(case.concurrency):
            clients.create_task(client())
    return answers


async def run(server: Server, case: Case, right_bytes: int) -> Run:
    """One measured load, after enough unmeasured requests to open all connections."""
    pool = ConnectionPool(HOST, server.port, RUN_LIMIT_S)
    try:
        await load(pool, case.unstreamed(), 2 * case.concurrency)
        cpu_s = server.cpu_s()
        answers = await load(pool, case, case.requests)
        cpu_s = server.cpu_s() - cpu_s
    finally:
        pool.close()
    wrong = [answer for answer in answers if answer.body_bytes != right_bytes]
    if wrong:
        raise RuntimeError(f"{case}: {len(wrong)} of {len(answers)} answers are not complete")
    waits_s = sorted(a.first_s if case.chunks else a.whole_s for a in answers)
    return Run(
        p50_s=statistics.median(waits_s),
        p99_s=waits_s[math.ceil(0.99 * len(waits_s)) - 1],
        whole_p50_s=statistics.median(answer.whole_s for answer in answers),
        cpu_s=cpu_s / len(answers),
        reads=statistics.fmean(answer.reads for answer in answers),
    )


async def measure(servers: Mapping[str, Server], rounds: int, limit_s: float) -> Measured:
    sizes = {
        case.name: await answer_bytes(case, servers) for case in cases()[:: len(CONCURRENCIES)]
    }
    measured: Measured = {case: {name: [] for name in servers} for case in cases()}
    for _ in in_time(rounds, limit_s):
        for case, runs in measured.items():
            for name, server in servers.items():
                try:
                    runs[name].append(await run(server, case, sizes[case.name][name]))
                except TimeoutError:
                    raise RuntimeError(f"{name}: {case} took over {RUN_LIMIT_S} s") from None
    return measured


def in_time(rounds: int, limit_s: float) -> Iterator[int]:
    """The numbers of up to `rounds` rounds; after the first, none begins that would end past
    `limit_s`."""
    began_s = time.monotonic()
    longest_s = 0.0
    for number in range(max(1, rounds)):
        round_began_s = time.monotonic()
        if round_began_s - began_s + longest_s > limit_s:
            break
        yield number
        longest_s = max(longest_s, time.monotonic() - round_began_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit-s", type=float, default=170, help="begin no round that ends later")
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="another checkout, whose router takes turns too"
    )
    parser.add_argument(
        "--peers", action="store_true", help="other programs take turns too; installed if need be"
    )
    args = parser.parse_args()
    console = Console(width=max(Console().width, 110))
    with contextlib.ExitStack() as processes:
        direct = processes.enter_context(engine(INTERVAL_S))
        servers = {
            "direct": direct,
            "router": processes.enter_context(relay("router", direct)),
            "bare": processes.enter_context(relay("bare", direct)),
        }
        if args.against is not None:
            servers["against"] = processes.enter_context(relay("router", direct, args.against))
        for one in PEERS if args.peers else ():
            with console.status(f"starting {one.name}"):
                try:
                    servers[one.name] = processes.enter_context(peer(one, direct))
                except UnavailableError as error:
                    console.print(f"{one.name} is skipped: {error}", markup=False)
        with console.status(f"measuring, at most {args.limit_s:.0f} s"):
            measured = uvloop.run(measure(servers, args.rounds, args.limit_s))
    relay_report.show(console, measured, INTERVAL_S)


if __name__ == "__main__":
    main()
