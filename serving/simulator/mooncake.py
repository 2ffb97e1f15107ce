"""Mooncake's public traces of prompts, answers and the blocks that they share."""

import gzip
import json
from pathlib import Path

from serving.placement.prefix import Prefix
from serving.simulator.request import Request
from serving.simulator.workload import Arrival

_BLOCK_TOKENS = 512


def read_trace(path: Path, limit: int | None = None) -> list[Arrival]:
    """The requests of a trace (JSON lines, gzipped), at most `limit`. Each `hash_ids` entry names
    512 tokens and all before them, the last one what is left. Answers are no prefixes: the trace
    does not say whose answer is in which prompt.
    """
    arrivals: list[Arrival] = []
    with gzip.open(path, "rt") as lines:
        for number, line in enumerate(lines):
            if number == limit:
                break
            row = json.loads(line)
            hashes = row["hash_ids"]
            tokens = max(row["input_length"], 1)
            ends_tokens = [min((i + 1) * _BLOCK_TOKENS, tokens) for i in range(len(hashes))]
            prefix = Prefix(hashes, ends_tokens, tokens)
            request = Request(prefix, max(row["output_length"], 1), answer_hash=-1 - number)
            arrivals.append(Arrival(row["timestamp"] / 1000, request))
    return arrivals
