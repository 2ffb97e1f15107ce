"""A vLLM CPU worker that resumes requests, and on which seeded ones survive a chunked prefill."""

from typing import Any

from vllm.v1.worker.cpu_worker import CPUWorker

from serving.engine.vllm.resumed_requests import ResumedStates


class SeededCpuWorker(CPUWorker):  # type: ignore[misc]  # vLLM has no types
    """Hides the random generators of unfinished prefills from vLLM while it samples.

    vLLM 0.32 samples a token for each request of a step, even if its prefill continues, and
    discards that token. It then rewinds the request's generator by one draw, which PyTorch supports
    on GPUs only: on a CPU it raises `CPU Generator does not use offset`, and the engine dies.
    Without its generator such a request draws nothing of its own, so there is nothing to rewind and
    the answer is that of an undivided prefill.
    """

    def init_device(self) -> None:
        super().init_device()
        if not self.use_v2_model_runner:
            self.model_runner.requests = ResumedStates()

    def sample_tokens(self, grammar_output: Any) -> Any:
        runner = self.model_runner
        generators = runner.input_batch.generators
        if not generators:
            return super().sample_tokens(grammar_output)
        discarded = runner.discard_request_mask.np
        held = {index: generators.pop(index) for index in list(generators) if discarded[index]}
        try:
            return super().sample_tokens(grammar_output)
        finally:
            generators.update(held)
