"""What normalisation knows of a model, and how it refuses a request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Reasoning = Literal["content", "separate"]
"""Where a client finds the model's `<think>` text: in `content` as the model wrote it, or in
`reasoning`, with `content` beginning after it."""


@dataclass(frozen=True, slots=True)
class ModelRules:
    """The facts of a model that decide what its requests must look like."""

    model_id: str
    tokenizer: Literal["v7", "v11", "v13"]
    context_tokens: int
    """Prompt and answer together."""
    image_limit: int
    """Images in one request, those of earlier turns included; 0 for a text model."""
    max_tokens: int | None = None
    """Limit of an answer for requests that set none; None: what the context leaves."""
    system_prompt: str | None = None
    """Template of the system prompt for requests that bring none; None to add none."""
    sampling: Mapping[str, float] = field(default_factory=dict)
    """Defaults for requests, where the engine has none of its own."""
    thinks: bool = False
    """Whether the model writes `<think>…</think>` before its answers."""
    reasoning: Reasoning = "content"
    """For requests that do not say themselves."""


class InvalidRequest(ValueError):
    """The request cannot be served as it is meant. The message says what to do; `param` and `code`
    are those of OpenAI's error object."""

    def __init__(self, message: str, param: str, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
