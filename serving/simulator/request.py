"""A request of a simulated load, and its outcome."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from serving.placement.prefix import Prefix


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a load. `answer_hash` is the chained hash of prompt and answer, with which a
    later turn's prefix continues. `next_turn` is sent `think_s` after the answer's end."""

    prefix: Prefix
    output_tokens: int
    answer_hash: int
    session: str | None = None
    next_turn: "Request | None" = None
    think_s: float = 0.0
    background: bool = False
    """Whether it is sent as background work."""
    tenant: str = ""
    adapter: str = ""
    """The adapter that it asks for; empty: the model itself."""

    @property
    def prompt_tokens(self) -> int:
        return self.prefix.tokens


def each_turn(request: Request, change: Callable[[Request], Request]) -> Request:
    """The request, and all turns after it, each changed."""
    changed = change(request)
    if request.next_turn is None:
        return changed
    return replace(changed, next_turn=each_turn(request.next_turn, change))


@dataclass(slots=True)
class Outcome:
    """The outcome of a request. Times are None until they come; `cached_tokens` is what the engine
    found in its cache, and `expected_cached_tokens` what the router expected."""

    request: Request
    sent_s: float
    replica: int
    cached_tokens: int = 0
    first_token_s: float | None = None
    end_s: float | None = None
    preemptions: int = 0
    expected_cached_tokens: int = 0

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_token_s is None else self.first_token_s - self.sent_s

    @property
    def itl_s(self) -> float | None:
        """The mean time between tokens; None before the end, and for an answer of one token."""
        if self.end_s is None or self.first_token_s is None or self.request.output_tokens < 2:
            return None
        return (self.end_s - self.first_token_s) / (self.request.output_tokens - 1)
