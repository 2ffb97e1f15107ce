"""The load of a scenario: a recorded trace or a generated load."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator, model_validator

from serving.section import Section, wrong
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

_DEFAULT_RATE_PER_S = 10.0
_OF_RECORDED_LOADS = frozenset({"trace", "speed", "repeat", "rate_per_s", "max_requests"})


class Kind(StrEnum):
    """Kinds of generated load. `shared`: questions about contexts that many requests share.
    `sessions`: conversations, in which each answer is a part of the next prompt."""

    shared = "shared"
    sessions = "sessions"


@dataclass(frozen=True, slots=True)
class Load:
    """Requests in the order of their arrival; the last is sent at about `seconds`."""

    name: str
    arrivals: Iterable[Arrival]
    seconds: float


class LoadConfig(Section):
    """The source of requests and their number."""

    trace: Path | None = None
    """A recorded load: Mooncake's JSON lines or Azure's CSV, plain or gzipped."""
    speed: float = Field(gt=0, default=1)
    """Plays the trace this many times faster."""
    repeat: int = Field(ge=1, default=1)
    """Plays the trace this many times, each time with new prompts."""
    rate_per_s: float | None = Field(ge=0, default=None)
    """Requests per second, or sessions begun per second. If not set, the trace's own rate, or 10. A
    trace takes as long at any rate: requests are copied with new prompts, or dropped."""
    max_requests: int | None = Field(ge=1, default=None)
    """Number of requests, or sessions, after which the load ends."""

    kind: Kind = Kind.shared
    form: Form = Form.steady
    """How the rate changes over time."""
    peak_per_s: float | None = Field(ge=0, default=None)
    """The highest rate of the shapes step, spike and day."""
    duration_s: float = Field(gt=0, default=600)
    prefixes: int = Field(ge=1, default=150)
    """Number of shared contexts, or of the sessions' system prompts."""
    prefix_tokens: int = Field(ge=0, default=6000)
    """Length of each shared context or system prompt."""
    questions_per_prefix: int = Field(ge=1, default=5)
    """Number of different questions about each shared context."""
    question_tokens: int = Field(ge=1, default=1200)
    output_tokens: int = Field(ge=1, default=300)
    turns: int = Field(ge=1, default=6)
    """Mean number of turns of a session."""

    @field_validator("trace")
    @classmethod
    def _is_beside_the_file(cls, trace: Path | None, info: ValidationInfo) -> Path | None:
        return None if trace is None else (info.context or Path()) / trace

    @model_validator(mode="after")
    def _fields_fit_each_other(self) -> "LoadConfig":
        if self.trace is None:
            for field in sorted(self.model_fields_set & {"speed", "repeat"}):
                raise wrong(field, "applies only to a recorded load; set trace")
        else:
            for field in sorted(self.model_fields_set - _OF_RECORDED_LOADS):
                raise wrong(field, "applies only to a generated load; leave out trace or this")
        if self.form is not Form.steady and self.peak_per_s is None:
            raise wrong("peak_per_s", f"is required with form {self.form}")
        if self._shape().most_per_s == 0:
            raise wrong("rate_per_s", "must be above 0, or no request is sent")
        return self

    def load(self, seed: int) -> Load:
        """Generates the requests. Raises TraceError, or OSError if the trace cannot be read."""
        return self._generated(seed) if self.trace is None else self._recorded(self.trace, seed)

    def _shape(self) -> Shape:
        low = _DEFAULT_RATE_PER_S if self.rate_per_s is None else self.rate_per_s
        high = low if self.peak_per_s is None else self.peak_per_s
        return Shape(self.form, low, high, self.duration_s)

    def _recorded(self, trace: Path, seed: int) -> Load:
        recorded = read_trace(trace)
        base = faster(recorded, self.speed)
        span_s = max(base[-1].at_s, 1e-3)
        recorded_per_s = len(base) / span_s
        name = f"{trace.name}, {len(base):,} requests in {recorded[-1].at_s:,.0f} s"
        if self.speed != 1:
            name += f", {self.speed:g} times as fast"
        arrivals: Iterable[Arrival] = base
        if self.repeat > 1:
            arrivals = repeated(base, self.repeat)
            name += f", {self.repeat} times"
        if self.rate_per_s is not None:
            arrivals = multiplied(arrivals, self.rate_per_s / recorded_per_s, seed)
            name += f", at {self.rate_per_s:g} requests/s"
        seconds = span_s * self.repeat
        if self.max_requests is not None:
            arrivals = islice(arrivals, self.max_requests)
            seconds = min(seconds, self.max_requests / (self.rate_per_s or recorded_per_s))
            name += f", the first {self.max_requests:,}"
        return Load(name, arrivals, seconds)

    def _generated(self, seed: int) -> Load:
        rng, times = random.Random(seed), random.Random(f"times {seed}")
        shape = self._shape()
        lengths = (
            f"{self.prefix_tokens:,} + {self.question_tokens:,} tokens in, "
            f"{self.output_tokens:,} out"
        )
        if self.kind is Kind.shared:
            requests = shared_prefix_requests(
                rng,
                prefixes=self.prefixes,
                users=self.questions_per_prefix,
                prefix_tokens=self.prefix_tokens,
                question_tokens=self.question_tokens,
                output_tokens=self.output_tokens,
            )
            name = f"{self.prefixes:,} contexts x {self.questions_per_prefix} questions, {lengths}"
        else:
            requests = conversations(
                rng,
                turns=self.turns,
                system_prompts=self.prefixes,
                system_tokens=self.prefix_tokens,
                question_tokens=self.question_tokens,
                output_tokens=self.output_tokens,
            )
            name = f"sessions of {self.turns} turns, {self.prefixes:,} system prompts, {lengths} "
            name += "a turn"
        if shape.form is Form.steady:
            name += f", {shape.low_per_s:g}/s"
        else:
            name += f", {shape.form}: {shape.low_per_s:g} to {shape.high_per_s:g}/s"
        name += f", {shape.seconds:,.0f} s"
        if self.max_requests is not None:
            requests = islice(requests, self.max_requests)
            name += f", the first {self.max_requests:,}"
        return Load(name, shaped(requests, shape, times), shape.seconds)
