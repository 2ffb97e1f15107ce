"""The number of replicas of a deployment: fixed, or scaled between two bounds."""

from typing import Generic, TypeVar

from pydantic import Field, model_validator

from serving.scaling import RouterScalingConfig, ScalingConfig
from serving.section import Section, wrong

Bounds = TypeVar("Bounds", ScalingConfig, RouterScalingConfig)


class Scaled(Section, Generic[Bounds]):
    """The settings of a deployment whose number of replicas is fixed or scaled."""

    replicas: int = Field(ge=1, default=1)
    autoscaling: Bounds | None = None
    """Scales the number of replicas, in place of a fixed one."""

    @model_validator(mode="after")
    def _replicas_are_fixed_or_scaled(self) -> "Scaled[Bounds]":
        if self.autoscaling is not None and "replicas" in self.model_fields_set:
            raise wrong("replicas", "cannot be combined with autoscaling; set one of the two")
        return self

    @property
    def least_replicas(self) -> int:
        return self.autoscaling.min_replicas if self.autoscaling else self.replicas

    @property
    def most_replicas(self) -> int:
        return self.autoscaling.max_replicas if self.autoscaling else self.replicas
