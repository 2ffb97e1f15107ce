"""The loads of the scaling benchmark: recorded ones, and generated ones whose rate changes."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serving.simulator.resample import multiplied
from serving.simulator.shape import Form, Shape
from serving.simulator.trace import read_trace
from serving.simulator.workload import Arrival, conversations, shaped

AZURE = Path("azure") / "AzureLLMInferenceTrace_conv.csv.gz"
MOONCAKE = Path("mooncake") / "conversation_trace.jsonl.gz"
CONTEXT_TOKENS = 32_768
"""Context length of the variant that is simulated."""


@dataclass(frozen=True, slots=True)
class Load:
    """A load. `arrivals` gets the folder of traces, of which it needs `trace`, if any."""

    name: str
    title: str
    arrivals: Callable[[Path], list[Arrival]]
    trace: Path | None = None


def _recorded(trace: Path, name: str, times: float) -> Load:
    """A trace with `times` as many requests in its own time, without those that exceed the
    context."""

    def arrivals(folder: Path) -> list[Arrival]:
        return [
            arrival
            for arrival in multiplied(read_trace(folder / trace), times)
            if arrival.request.prompt_tokens + arrival.request.output_tokens <= CONTEXT_TOKENS
        ]

    title = f"{name.capitalize()} conversation, {times:g} times its requests"
    return Load(f"{name}-{times:g}", title, arrivals, trace)


def _made_up(form: Form, low_per_s: float, times: float, hours: float) -> Load:
    """Requests with one of eight system prompts of 1,500 tokens, some 5,000 tokens of their own and
    answers of some 300, exponential."""

    def arrivals(_: Path) -> list[Arrival]:
        rng = random.Random(1)
        asked = conversations(rng, turns=1, question_tokens=5000, output_tokens=300)
        shape = Shape(form, low_per_s, low_per_s * times, hours * 3600)
        return list(shaped(asked, shape, rng))

    title = f"{form.capitalize()}, {low_per_s:g} to {low_per_s * times:g} a second in {hours:g} h"
    return Load(form.value, title, arrivals)


LOADS = [
    _recorded(AZURE, "azure", 0.5),
    _recorded(AZURE, "azure", 1),
    _recorded(MOONCAKE, "mooncake", 1),
    _recorded(MOONCAKE, "mooncake", 2.5),
    _made_up(Form.step, 0.5, 4, 6),
    _made_up(Form.spike, 0.5, 4, 12),
    _made_up(Form.day, 0.3, 8, 4),
]
