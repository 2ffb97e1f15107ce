"""Loads by their name: recorded ones and made up ones."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path

from serving.simulator.resample import multiplied, repeated
from serving.simulator.shape import Form, Shape
from serving.simulator.trace import read_trace
from serving.simulator.workload import (
    Arrival,
    conversations,
    faster,
    shaped,
    shared_prefix_requests,
)


class Kind(StrEnum):
    shared = "shared"
    sessions = "sessions"


@dataclass(frozen=True, slots=True)
class Load:
    """`seconds`: until about when requests are sent."""

    name: str
    arrivals: Iterable[Arrival]
    seconds: float


def of_trace(
    path: Path, speed: float, repeat: int, per_s: float | None, most: int | None, seed: int
) -> Load:
    """`per_s` None: as it was recorded. Raises TraceError or OSError for a file that is none."""
    recorded = read_trace(path)
    base = faster(recorded, speed)
    span_s = max(base[-1].at_s, 1e-3)
    recorded_per_s = len(base) / span_s
    name = f"{path.name}, {len(base):,} requests in {recorded[-1].at_s:,.0f} s"
    if speed != 1:
        name += f", {speed:g} times as fast"
    arrivals: Iterable[Arrival] = base
    if repeat > 1:
        arrivals = repeated(base, repeat)
        name += f", {repeat} times"
    if per_s is not None:
        arrivals = multiplied(arrivals, per_s / recorded_per_s, seed)
        name += f", at {per_s:g} requests/s"
    seconds = span_s * repeat
    if most is not None:
        arrivals = islice(arrivals, most)
        seconds = min(seconds, most / (per_s or recorded_per_s))
        name += f", the first {most:,}"
    return Load(name, arrivals, seconds)


def generated(
    kind: Kind,
    shape: Shape,
    most: int | None,
    *,
    prefixes: int,
    prefix_tokens: int,
    users: int,
    question_tokens: int,
    output_tokens: int,
    turns: int,
    seed: int,
) -> Load:
    rng = random.Random(seed)
    times = random.Random(f"times {seed}")
    lengths = f"{prefix_tokens:,} + {question_tokens:,} tokens in, {output_tokens:,} out"
    if kind is Kind.shared:
        requests = shared_prefix_requests(
            rng,
            prefixes=prefixes,
            users=users,
            prefix_tokens=prefix_tokens,
            question_tokens=question_tokens,
            output_tokens=output_tokens,
        )
        name = f"{prefixes:,} contexts x {users} questions, {lengths}"
    else:
        requests = conversations(
            rng,
            turns=turns,
            system_prompts=prefixes,
            system_tokens=prefix_tokens,
            question_tokens=question_tokens,
            output_tokens=output_tokens,
        )
        name = f"sessions of {turns} turns, {prefixes:,} system prompts, {lengths} a turn"
    if shape.form is Form.steady:
        name += f", {shape.low_per_s:g}/s"
    else:
        name += f", {shape.form}: {shape.low_per_s:g} to {shape.high_per_s:g}/s"
    name += f", {shape.seconds:,.0f} s"
    if most is not None:
        requests = islice(requests, most)
        name += f", the first {most:,}"
    return Load(name, shaped(requests, shape, times), shape.seconds)
