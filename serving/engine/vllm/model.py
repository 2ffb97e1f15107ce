"""The engine's model, as its front end knows it."""

from collections.abc import Sequence
from dataclasses import dataclass

from vllm.exceptions import VLLMNotFoundError

from serving.answers.vocabulary import Vocabulary
from serving.mistral import ModelRules


@dataclass(frozen=True, slots=True)
class Model:
    """The facts of a model that its requests are read and answered by."""

    names: Sequence[str]
    """Those by which requests know it; answers have the first, or the name of an adapter."""
    rules: ModelRules
    """Their `sampling` has vLLM's defaults for this model, which may include `max_tokens`."""
    vocabulary: Vocabulary
    max_model_len: int
    """Limit on the tokens of prompt and answer together, by vLLM's name."""
    resumes_exactly: bool = False
    """Whether the engine goes on behind another's tokens as if they were its own, rather than as a
    part of the prompt: see `serving.engine.vllm.resumed_requests`."""
    advances_grammars: bool = False
    """Whether its grammars read those tokens in either case."""

    def check_name(self, name: str | None, adapter: str | None) -> None:
        """Raises VLLMNotFoundError for a request to a model that this engine does not have. An
        adapter is known by its digest alone, as routers know what its name means."""
        if name is not None and name not in self.names and adapter is None:
            raise VLLMNotFoundError(
                f"The model '{name[:200]}' does not exist. Available models: {self.names[0]}."
            )
