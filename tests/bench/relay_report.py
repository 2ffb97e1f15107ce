"""The measurements of the relay benchmark, as tables."""

import dataclasses
import datetime
import importlib.metadata
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

REQUEST_TARGET_MS = 0.35
CHUNK_TARGET_US = 25.0
ADDED_TARGET_MS = 0.8


@dataclass(frozen=True, slots=True)
class Case:
    """A load: `requests` requests, `concurrency` at a time; `chunks` is 0 if it is not streamed."""

    name: str
    prompt_bytes: int
    chunks: int
    concurrency: int
    requests: int

    def unstreamed(self) -> "Case":
        return dataclasses.replace(self, chunks=0)


@dataclass(frozen=True, slots=True)
class Run:
    """One load on one server. p50 and p99 are of the time until the whole answer or, of a stream,
    its first bytes; `cpu_s` (of the server) and `reads` (by the client) are per request."""

    p50_s: float
    p99_s: float
    whole_p50_s: float
    cpu_s: float
    reads: float


Measured = dict[Case, dict[str, list[Run]]]
"""The runs of each case by server, one per round, in the order of the rounds."""


class Summary:
    """Medians over the rounds. Differences and ratios are taken within a round."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured
        self._baseline: dict[int, Case] = {}
        for case in measured:
            self._baseline.setdefault(case.concurrency, case)
        self.cases = list(measured)
        self.rounds = min(len(runs) for servers in measured.values() for runs in servers.values())

    @property
    def servers(self) -> list[str]:
        return list(self._measured[self.cases[0]])

    def value(self, case: Case, server: str, figure: Callable[[Run], float]) -> float:
        return median(figure(run) for run in self._measured[case][server])

    def added_ms(self, case: Case, figure: Callable[[Run], float], server: str = "router") -> float:
        return 1e3 * median(figure(r) - figure(d) for r, d in self._pairs(case, server, "direct"))

    def ratio(self, case: Case, to: str, figure: Callable[[Run], float]) -> float:
        """The router's figure over that of `to`."""
        return median(figure(r) / figure(t) for r, t in self._pairs(case, "router", to))

    def cpu_ms(self, case: Case, server: str) -> float:
        return 1e3 * self.value(case, server, cpu_s)

    def chunk_us(self, case: Case, server: str) -> float:
        """CPU per chunk: that of the request less that of an unstreamed 1 kB one, per chunk."""
        runs = self._measured[case][server]
        base = self._measured[self._baseline[case.concurrency]][server]
        return median(
            1e6 * (run.cpu_s - unstreamed.cpu_s) / case.chunks
            for run, unstreamed in zip(runs, base, strict=True)
        )

    def further_chunk_us(self, case: Case, server: str) -> float:
        """CPU per chunk that the longest stream of this concurrency needs more than the shortest:
        without the cost of a stream's beginning and end."""
        streams = [c for c in self.cases if c.chunks and c.concurrency == case.concurrency]
        short = min(streams, key=lambda c: c.chunks)
        long = max(streams, key=lambda c: c.chunks)
        pairs = zip(self._measured[short][server], self._measured[long][server], strict=True)
        chunks = long.chunks - short.chunks
        return median(1e6 * (more.cpu_s - less.cpu_s) / chunks for less, more in pairs)

    def _pairs(self, case: Case, first: str, second: str) -> list[tuple[Run, Run]]:
        runs = self._measured[case]
        return list(zip(runs[first], runs[second], strict=True))


p50_s, p99_s, whole_p50_s, cpu_s, reads_of = map(
    attrgetter, ("p50_s", "p99_s", "whole_p50_s", "cpu_s", "reads")
)


def show(console: Console, measured: Measured, interval_s: float) -> None:
    summary = Summary(measured)
    for name, fact in machine().items():
        console.print(f"{name}: {fact}", highlight=False, markup=False)
    console.print(latency_table(summary))
    console.print(cpu_table(summary))
    if "against" in summary.servers:
        console.print(against_table(summary))
    if set(summary.servers) - {"direct", "router", "bare", "against"}:
        console.print(peers_table(summary))
    console.print(notes(interval_s), highlight=False, markup=False)
    console.print(targets_table(summary))


def latency_table(summary: Summary) -> Table:
    table = new_table(
        f"Latency, medians over {summary.rounds} rounds",
        "case",
        "at\nonce",
        "direct ms\np50",
        "\np99",
        "added ms\np50",
        "\np99",
        "ratio\np50",
        "\nwhole p50",
    )
    for case in summary.cases:
        table.add_row(
            case.name,
            str(case.concurrency),
            *(f"{1e3 * summary.value(case, 'direct', figure):.2f}" for figure in (p50_s, p99_s)),
            *(f"{summary.added_ms(case, figure):.2f}" for figure in (p50_s, p99_s)),
            *(f"{summary.ratio(case, 'direct', figure):.2f}" for figure in (p50_s, whole_p50_s)),
            end_section=case.concurrency == 100,
        )
    return table


def cpu_table(summary: Summary) -> Table:
    table = new_table(
        f"CPU time, medians over {summary.rounds} rounds",
        "case",
        "at\nonce",
        "router\nms/req.",
        "µs/chunk\nnet",
        "\ntotal",
        "bare relay\nms/req.",
        "µs/chunk\nnet",
        "reads\n/chunk",
    )
    for case in summary.cases:
        cpu_ms = {server: summary.cpu_ms(case, server) for server in ("router", "bare")}
        net, total, bare_net, reads = "", "", "", ""
        if case.chunks:
            net = f"{summary.chunk_us(case, 'router'):.1f}"
            total = f"{1e3 * cpu_ms['router'] / case.chunks:.1f}"
            bare_net = f"{summary.chunk_us(case, 'bare'):.1f}"
            reads = f"{summary.value(case, 'router', reads_of) / (case.chunks + 1):.2f}"
        table.add_row(
            case.name,
            str(case.concurrency),
            f"{cpu_ms['router']:.3f}",
            net,
            total,
            f"{cpu_ms['bare']:.3f}",
            bare_net,
            reads,
            end_section=case.concurrency == 100,
        )
    return table


def against_table(summary: Summary) -> Table:
    table = new_table(
        "This router over the one of --against",
        "case",
        "at\nonce",
        "ratio\np50",
        "ratio\nCPU",
        "CPU ms a request\nhere / there",
        "CPU µs a chunk, net\nhere / there",
    )
    for case in summary.cases:
        here, there = (summary.cpu_ms(case, server) for server in ("router", "against"))
        chunks = ""
        if case.chunks:
            here_us, there_us = (summary.chunk_us(case, s) for s in ("router", "against"))
            chunks = f"{here_us:.1f} / {there_us:.1f}"
        table.add_row(
            case.name,
            str(case.concurrency),
            f"{summary.ratio(case, 'against', p50_s):.2f}",
            f"{summary.ratio(case, 'against', cpu_s):.2f}",
            f"{here:.3f} / {there:.3f}",
            chunks,
            end_section=case.concurrency == 100,
        )
    return table


def peers_table(summary: Summary) -> Table:
    """A table of all programs in the same run: a row for each, a column for each figure."""

    def added_ms(case: Case, server: str) -> float:
        return summary.added_ms(case, p50_s, server)

    columns: list[tuple[str, str, int, Callable[[Case, str], float]]] = [
        ("added", "1 kB", 1, added_ms),
        ("", "220 kB", 1, added_ms),
        ("CPU", "1 kB", 1, summary.cpu_ms),
        ("", "1 kB", 16, summary.cpu_ms),
        ("", "220 kB", 16, summary.cpu_ms),
        ("chunk", "64 chunks", 16, summary.chunk_us),
        ("", "64 chunks", 100, summary.chunk_us),
        ("further", "200 chunks", 16, summary.further_chunk_us),
        ("", "200 chunks", 100, summary.further_chunk_us),
    ]
    named = {(case.name, case.concurrency): case for case in summary.cases}
    headings = (
        f"{heading}\n{name.removesuffix(' chunks')}\n{at_once}"
        for heading, name, at_once, _ in columns
    )
    table = new_table(
        "Beside other programs: ms added to the median, CPU ms a request, CPU µs a chunk (net)",
        "\ncase\nat once",
        *headings,
    )
    for server in summary.servers[1:]:
        figures = (figure(named[name, at_once], server) for _, name, at_once, figure in columns)
        table.add_row(server, *(f"{figure:.3g}" for figure in figures))
    return table


def targets_table(summary: Summary) -> Table:
    at_once = sorted({case.concurrency for case in summary.cases})
    table = new_table("Targets and measured", "", "at most", *(f"at {n}" for n in at_once))
    unstreamed = [case for case in summary.cases if not case.chunks]
    streamed = [case for case in summary.cases if case.chunks]
    longest = [case for case in streamed if case.chunks == max(c.chunks for c in streamed)]
    alone = [case for case in summary.cases if case.concurrency == 1]
    targets: list[tuple[str, float, list[Case], Callable[[Case], float]]] = [
        ("CPU ms/request", REQUEST_TARGET_MS, unstreamed, lambda c: summary.cpu_ms(c, "router")),
        ("CPU µs/chunk net", CHUNK_TARGET_US, streamed, lambda c: summary.chunk_us(c, "router")),
        (
            "CPU µs/further chunk",
            CHUNK_TARGET_US,
            longest,
            lambda c: summary.further_chunk_us(c, "router"),
        ),
        ("added ms p50", ADDED_TARGET_MS, alone, lambda c: summary.added_ms(c, p50_s)),
    ]
    for label, limit, cases, figure in targets:
        for name in dict.fromkeys(case.name for case in cases):
            figures = {case.concurrency: figure(case) for case in cases if case.name == name}
            cells = (f"{figures[n]:.3g}" if n in figures else "" for n in at_once)
            table.add_row(f"{label}, {name}", f"{limit:g}", *cells)
    return table


def new_table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def notes(interval_s: float) -> str:
    return (
        f"Streams: the engine pauses {1e3 * interval_s:.0f} ms between chunks, so that each is a "
        "read of its own (the client's reads/chunk: 1.00 if so). Those of a case start together "
        "and stay about in step, as those of one engine do.\n"
        "Latency is to the end of an answer, of a stream to its first bytes; its whole p50 is to "
        "the end too, and well over 1 if something was saturated. Where a round has under 100 "
        "requests, p99 is the maximum. A client asks again as soon as it is answered: unstreamed, "
        "16 and 100 at once fill the cores, and latency there is throughput.\n"
        "CPU is that of the relay's process: all threads, user and kernel. A chunk's total is the"
        " stream's over its chunks; net is less what an unstreamed 1 kB request costs; a further "
        "one is one of those that the longest stream has more than the shortest: without what "
        "begins and ends a stream. The bare relay copies bytes on the same event loop and reads "
        "none: what the router takes over it is the router's own work, the rest the kernel's, the"
        " loop's and that of waking up. One stream alone lets the router sleep before each chunk:"
        " its figures are those of cold caches, and hold the ten ticks a second of the idle HTTP "
        "server."
    )


def machine() -> dict[str, str]:
    """The date, and the hardware and software that the figures hold for."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    models = {line.split(": ")[1] for line in cpuinfo if line.startswith("model name")}
    packages = ("uvloop", "uvicorn", "httptools", "msgspec")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{' / '.join(models) or platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}, Linux {platform.release()}",
        "software": f"Python {platform.python_version()}, {', '.join(versions)}",
    }
