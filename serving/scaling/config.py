"""The configuration of scaling: of a model's replicas, and of the routers."""

from pydantic import Field, model_validator

from serving.section import Section, wrong


class ScalingConfig(Section):
    """Scales the replicas of a model with the work that arrives."""

    min_replicas: int = Field(ge=0, default=1)
    """With 0 the model scales to zero when idle, and the first request waits for a start."""
    max_replicas: int = Field(ge=1)
    prefill_utilization: float = Field(gt=0, le=1, default=0.3)
    """Share of a replica's time that prefill is to take on average. Running answers wait meanwhile:
    their time between tokens is a decode step's / (1 - prefill_utilization)."""
    idle_s: float = Field(ge=0, default=600)
    """Time for which the last replica stays without work, where min_replicas is 0."""

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> "ScalingConfig":
        if self.min_replicas > self.max_replicas:
            raise wrong(
                "min_replicas", f"allowed is at most max_replicas, which is {self.max_replicas}"
            )
        return self


class RouterScalingConfig(Section):
    """Scales the number of routers with what passes through them."""

    min_replicas: int = Field(ge=1, default=2)
    max_replicas: int
    idle_s: float = Field(ge=0, default=300)
    """Time for which fewer routers must have been enough before a router goes."""

    @model_validator(mode="after")
    def _min_is_below_max(self) -> "RouterScalingConfig":
        if self.min_replicas >= self.max_replicas:
            raise wrong(
                "min_replicas",
                f"allowed is less than max_replicas, which is {self.max_replicas}; for a fixed "
                "number of routers set replicas in place of autoscaling",
            )
        return self
