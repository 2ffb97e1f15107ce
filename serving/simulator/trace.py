"""Reads recorded loads: Mooncake's traces, with the blocks that prompts share, and Azure's of
2023."""

import csv
import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from serving.placement.prefix import Prefix
from serving.simulator.request import Request
from serving.simulator.workload import Arrival, PromptMaker

_GZIP = b"\x1f\x8b"
_MOONCAKE_BLOCK_TOKENS = 512
_MOONCAKE = ("timestamp", "input_length", "output_length", "hash_ids")
_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


class TraceError(Exception):
    """The file is not a trace. The message names the file, and the line if a single one is
    wrong."""


def read_trace(path: Path, limit: int | None = None) -> list[Arrival]:
    """The requests of a trace, plain or gzipped, at most `limit`, in the order of time, from 0 on.

    Mooncake's are JSON lines of timestamp (ms), input_length, output_length and hash_ids, each of
    which names 512 tokens and all before them. Answers are not prefixes: the trace does not say
    whose answer is in which prompt. Azure's of 2023 are CSV of TIMESTAMP, ContextTokens and
    GeneratedTokens; its prompts share nothing.

    Raises TraceError for a file of another format, OSError for one that cannot be read.
    """
    with _open(path) as lines:
        try:
            first = lines.readline()
            read = _recognise(path, first)
            rows = enumerate(itertools.chain([first], lines), start=1)
            arrivals = list(itertools.islice(read(path, rows), limit))
        except (gzip.BadGzipFile, EOFError, UnicodeDecodeError, zlib.error) as error:
            raise TraceError(f"{path} cannot be read as text: {error}") from None
    if not arrivals:
        raise TraceError(f"{path} is a trace without requests")
    arrivals.sort(key=lambda arrival: arrival.at_s)
    begin_s = arrivals[0].at_s
    return [Arrival(arrival.at_s - begin_s, arrival.request) for arrival in arrivals]


_Rows = Iterable[tuple[int, str]]


def _open(path: Path) -> IO[str]:
    with path.open("rb") as file:
        zipped = file.read(len(_GZIP)) == _GZIP
    return gzip.open(path, "rt", encoding="utf-8") if zipped else path.open(encoding="utf-8-sig")


def _recognise(path: Path, first: str) -> Callable[[Path, _Rows], Iterator[Arrival]]:
    header = next(csv.reader([first]), [])
    if set(_AZURE) <= {name.strip() for name in header}:
        return _azure
    try:
        row = json.loads(first)
    except ValueError:
        row = None
    if isinstance(row, dict) and set(_MOONCAKE) <= row.keys():
        return _mooncake
    raise TraceError(
        f"{path} is no trace that is known. Its first line must be that of a Mooncake trace, a "
        f"JSON object with {', '.join(_MOONCAKE)}, or of an Azure trace, {','.join(_AZURE)}; it is "
        f"{first.rstrip()[:60]!r}"
    )


def _mooncake(path: Path, rows: _Rows) -> Iterator[Arrival]:
    for number, line in rows:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            hashes = [int(one) for one in row["hash_ids"]]
            tokens = max(int(row["input_length"]), 1)
            output_tokens = max(int(row["output_length"]), 1)
            at_s = row["timestamp"] / 1000
        except (ValueError, KeyError, TypeError) as error:
            raise _bad_line(path, number, error) from None
        block = _MOONCAKE_BLOCK_TOKENS
        ends_tokens = [min((i + 1) * block, tokens) for i in range(len(hashes))]
        prefix = Prefix(hashes, ends_tokens, tokens)
        yield Arrival(at_s, Request(prefix, output_tokens, answer_hash=-number))


def _azure(path: Path, rows: _Rows) -> Iterator[Arrival]:
    maker = PromptMaker()
    lines = iter(rows)
    _, header = next(lines)
    names = [name.strip() for name in next(csv.reader([header]))]
    for number, line in lines:
        if not line.strip():
            continue
        try:
            row = dict(zip(names, next(csv.reader([line])), strict=True))
            at_s = _seconds(row["TIMESTAMP"].strip())
            prompt = maker.extend(None, max(int(row["ContextTokens"]), 1))
            output_tokens = max(int(row["GeneratedTokens"]), 1)
        except ValueError as error:
            raise _bad_line(path, number, error) from None
        yield Arrival(at_s, Request(prompt, output_tokens, maker.fresh()))


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).replace(tzinfo=UTC).timestamp()


def _bad_line(path: Path, number: int, error: Exception) -> TraceError:
    what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return TraceError(f"{path}, line {number}: {what}")
