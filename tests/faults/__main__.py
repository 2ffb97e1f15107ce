"""`python -m tests.faults`: the effect of faults and changes of a service on running answers."""

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from tests.faults import report
from tests.faults.deployed import running
from tests.faults.events import EVENTS, NOTHING, ON_NODES_APART, ON_TWO_NODES
from tests.faults.suite import Row, Size, run_all
from tests.faults.two_nodes import REDIS, NodesApart, TwoNodes
from tests.faults.two_nodes import running as running_nodes

FULL = Size(streams=60, unstreamed=6, tokens=120, long_tokens=1200)
SHORT = Size(streams=12, unstreamed=2, tokens=40, long_tokens=120)
VLLM = Size(streams=8, unstreamed=1, tokens=400, long_tokens=1500)
_MAX_WAITING = 50
_WIDTH = 124


def run(engine: str, size: Size, names: list[str], short: bool) -> list[Row]:
    events = [
        event
        for event in (*EVENTS, *ON_TWO_NODES, *ON_NODES_APART)
        if (not names or any(name in event.name for name in names))
        and (event.on_vllm or engine != "vllm")
        and (event.in_short or names or not short)
    ]
    with running(engine, _MAX_WAITING) as app:
        here = [event for event in events if event in EVENTS]
        rows = asyncio.run(run_all(app, size, [NOTHING, *here]))
    for elsewhere, nodes in ((ON_TWO_NODES, TwoNodes), (ON_NODES_APART, NodesApart)):
        if not (there := [event for event in events if event in elsewhere]):
            continue
        if REDIS is None:
            names = [event.name for event in there]
            print(f"skipped, as there is no redis-server: {', '.join(names)}", file=sys.stderr)
        else:
            with running_nodes(_MAX_WAITING, nodes) as app:
                rows += asyncio.run(run_all(app, size, there))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--engine", choices=["stand-in", "vllm"], default="stand-in")
    parser.add_argument("--short", action="store_true", help="fewer streams and events")
    parser.add_argument("--only", action="append", default=[], help="part of an event's name")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    args = parser.parse_args()
    size = VLLM if args.engine == "vllm" else SHORT if args.short else FULL
    rows = run(args.engine, size, args.only, args.short)
    report.show(Console(width=_WIDTH), args.engine, rows)
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    sys.exit(not all(row.lossless for row in rows))


if __name__ == "__main__":
    main()
