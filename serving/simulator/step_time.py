"""The duration of an engine's step."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepTime:
    """A roofline with an overhead: matrix products at the prefill rate or at the speed at which the
    weights stream, whichever is slower; then attention, which reads the KV cache of each decoding
    sequence; then the fixed cost of a step."""

    prefill_tokens_per_s: float
    """Prefill rate for prompts so short that attention costs nothing."""
    weights_s: float
    """Time to read the weights once."""
    kv_token_s: float
    """Time to read one token of the KV cache."""
    attention_s: float
    """Time that a prompt token takes for each token that it attends to."""
    overhead_s: float = 0.0015
    """Fixed time of each step."""
    sequence_s: float = 0.0
    """Time that a decoding sequence adds to a step, besides its attention."""

    def prefill_s(self, prompt_tokens: float, cached_tokens: float = 0) -> float:
        """The prefill time of one prompt in an otherwise idle engine."""
        tokens, context = prompt_tokens - cached_tokens, (prompt_tokens + cached_tokens) / 2
        return tokens / self.prefill_tokens_per_s + self.attention_s * tokens * context

    def decode_s(self, steps: int, sequences: int, context_tokens: int) -> float:
        """The time of `steps` steps that only decode; the sequences hold `context_tokens` together
        at first.
        """
        reads = steps * context_tokens + sequences * steps * (steps - 1) / 2
        return steps * self._decode_base_s(sequences) + self.kv_token_s * reads

    def decode_steps_in(self, elapsed_s: float, sequences: int, context_tokens: int) -> int:
        """Number of decode steps that are complete after `elapsed_s`."""
        growth_s = self.kv_token_s * sequences / 2
        first_s = self._decode_base_s(sequences) + self.kv_token_s * context_tokens - growth_s
        root = math.sqrt(first_s * first_s + 4 * growth_s * max(elapsed_s, 0.0))
        return int(2 * max(elapsed_s, 0.0) / (first_s + root) + 1e-9)

    def mixed_s(
        self, prefill_tokens: int, prefill_reads: float, sequences: int, context_tokens: int
    ) -> float:
        """The time of a step with prefill. `prefill_reads` is the number of context tokens that
        each of its prefill tokens attends to, summed."""
        tokens = prefill_tokens + sequences
        products_s = max(tokens / self.prefill_tokens_per_s, self.weights_s)
        return (
            products_s
            + self.attention_s * prefill_reads
            + self.kv_token_s * context_tokens
            + self.sequence_s * sequences
            + self.overhead_s
        )

    def _decode_base_s(self, sequences: int) -> float:
        products_s = max(sequences / self.prefill_tokens_per_s, self.weights_s)
        return products_s + self.sequence_s * sequences + self.overhead_s
