"""vLLM's CPU worker, and random generators that cannot be rewound."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from vllm.v1.worker.cpu_worker import CPUWorker

from serving.engine.vllm.worker import SeededCpuWorker


def test_sampling_sees_the_generators_of_finished_prefills_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generators = {index: torch.Generator() for index in range(3)}
    batch = SimpleNamespace(generators=dict(generators))
    mask = SimpleNamespace(np=np.array([False, True, False, True]))
    worker: Any = SeededCpuWorker.__new__(SeededCpuWorker)
    worker.model_runner = SimpleNamespace(input_batch=batch, discard_request_mask=mask)
    seen: list[dict[int, torch.Generator]] = []

    def sample_tokens(self: CPUWorker, grammar_output: object) -> object:
        seen.append(dict(batch.generators))
        if grammar_output == "raises":
            raise RuntimeError
        return grammar_output

    monkeypatch.setattr(CPUWorker, "sample_tokens", sample_tokens)
    assert worker.sample_tokens("grammar") == "grammar"
    with pytest.raises(RuntimeError):
        worker.sample_tokens("raises")
    assert seen == [{0: generators[0], 2: generators[2]}] * 2
    assert batch.generators == generators
