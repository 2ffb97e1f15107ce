"""A model as configured in the router."""

from collections.abc import Callable
from dataclasses import dataclass

from serving.mistral import ModelRules
from serving.placement import UNLIMITED, Capacity, Rates
from serving.router.replicas.backend import Backend
from serving.router.replicas.declared_adapters import AdapterSettings


@dataclass(frozen=True, slots=True)
class Model:
    """Its names, its rules, and the expected properties of a replica before one is up."""

    model_id: str
    aliases: tuple[str, ...] = ()
    rules: ModelRules | None = None
    """How its requests are normalised, by its engines or, for a backend, by the router; None: they
    pass unchanged."""
    backend: Backend | None = None
    """The external server that runs it, if no engine of ours does."""
    capacity: Capacity = UNLIMITED
    first_rates: Callable[[], Rates] = Rates
    gpus: int = 0
    """The GPUs of each replica."""
    scales: bool = False
    """Whether its number of replicas follows the routers' reports."""
    from_zero: bool = False
    """Whether it may have no replica until a request arrives."""
    adapters: AdapterSettings | None = None
    """Its LoRA adapters; None: it takes none."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which requests may ask for it: its id and its aliases."""
        return (self.model_id, *self.aliases)

    @property
    def system_prompt(self) -> str | None:
        """The system prompt of its conversations without one, as a template."""
        return None if self.rules is None else self.rules.system_prompt

    @property
    def tools_first(self) -> bool:
        """Whether its prompts have their tools before the first user message."""
        return self.rules is not None and self.rules.tokenizer == "v13"
