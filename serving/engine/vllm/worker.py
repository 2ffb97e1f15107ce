"""vLLM's CPU worker, made to keep a seeded request alive through a prefill of several steps."""

from typing import Any

from vllm.v1.worker.cpu_worker import CPUWorker


class SeededCpuWorker(CPUWorker):  # type: ignore[misc]  # vLLM has no types
    """Takes the random generators of unfinished prefills out of vLLM's way while it samples.

    vLLM 0.32 samples a token for each request of a step, also for one whose prefill goes on, and
    discards that token. It then turns the request's generator back by one draw, which PyTorch can
    do on a GPU only: on a CPU it raises `CPU Generator does not use offset`, and the engine dies.
    Without its generator such a request draws nothing of its own, so there is nothing to turn back
    and the answer is the one of an undivided prefill.
    """

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
