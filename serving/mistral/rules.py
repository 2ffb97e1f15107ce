"""The facts of a model that normalisation needs, and the error for invalid requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Reasoning = Literal["content", "separate"]
"""Where clients find the model's `<think>` text: in `content` as the model wrote it, or in
`reasoning`, with `content` beginning after it."""


@dataclass(frozen=True, slots=True)
class ModelRules:
    """The facts of a model that determine what its requests must look like."""

    model_id: str
    tokenizer: Literal["v7", "v11", "v13"]
    context_tokens: int
    """Limit on the tokens of prompt and answer together."""
    image_limit: int
    """Images per request, including those of earlier turns; 0 for a text model."""
    max_tokens: int | None = None
    """Limit on the answer for requests that set none; None: what the context leaves."""
    system_prompt: str | None = None
    """Template of the system prompt for requests without one; None: none is added."""
    public_system_prompts: tuple[str, ...] = ()
    """Templates of system prompts that are no secret: tenants share their place in the engines'
    prefix caches."""
    sampling: Mapping[str, float] = field(default_factory=dict)
    """The model's defaults of sampling. Another server is sent them; our engines have them."""
    other_server: bool = False
    """Whether another OpenAI server runs the model, which reads requests less leniently than our
    engines and may know less of the API than vLLM."""
    thinks: bool = False
    """Whether the model writes `<think>…</think>` before its answers."""
    reasoning: Reasoning = "content"
    """The default for requests that do not choose."""


class InvalidRequest(ValueError):
    """The request cannot be served as intended. The message says what to do; `param` and `code` are
    those of OpenAI's error object."""

    def __init__(self, message: str, param: str | None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
