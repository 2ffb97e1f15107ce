"""A model as the router is configured for it."""

from collections.abc import Callable
from dataclasses import dataclass

from serving.mistral import ModelRules
from serving.placement import UNLIMITED, Capacity, Rates
from serving.router.replicas.backend import Backend


@dataclass(frozen=True, slots=True)
class Model:
    """Its names, its rules, and what to expect of a replica before one is up."""

    model_id: str
    aliases: tuple[str, ...] = ()
    rules: ModelRules | None = None
    """None: requests to it pass as they are."""
    backend: Backend | None = None
    """The server that has it, if that is none of our engines."""
    capacity: Capacity = UNLIMITED
    first_rates: Callable[[], Rates] = Rates
    scales: bool = False
    """The number of its replicas follows what the routers report."""
    from_zero: bool = False
    """It may have no replica, and gets one when a request comes."""

    @property
    def tools_first(self) -> bool:
        """Whether its prompts have their tools before the first message of the user."""
        return self.rules is not None and self.rules.tokenizer == "v13"
