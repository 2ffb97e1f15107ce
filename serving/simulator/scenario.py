"""A scenario, which describes a simulated run completely, and its YAML form."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from serving import catalogue
from serving.catalogue import CatalogueEntry, ModelName
from serving.catalogue.entry import MAX_MODEL_LEN, Gpu
from serving.placement.policies import PolicyName
from serving.scaling import ScalingConfig
from serving.section import NotYamlError, Section, explain, parse_yaml, set_field, wrong
from serving.simulator.adapters import AdaptersConfig
from serving.simulator.load import LoadConfig
from serving.simulator.result import Slo
from serving.simulator.tenants import TenantLoad

DEFAULT_MODEL = "mistral-small-3.2-24b-instruct-2506"


class ScenarioError(Exception):
    """A scenario that cannot be used. The message names the file, the field and what is allowed."""


class FleetConfig(Section):
    """The replicas of one model, and the routers in front of them."""

    model: ModelName = DEFAULT_MODEL
    """Name, id or alias of a catalogue entry, or path of a YAML file of the same form."""
    variant: str | None = None
    """One of the entry's variants; the first if not set."""
    gpu: Gpu = None
    """Type of the GPUs, or the usable memory of one in GiB, if not the variant's. Without a type,
    the model's file must have a `speed`."""
    tensor_parallel_size: int | None = Field(ge=1, default=None)
    """GPUs per replica, if not the variant's."""
    context_tokens: int | None = Field(ge=1, default=None, validation_alias=MAX_MODEL_LEN)
    """Longest prompt and answer together; longer requests are rejected."""
    replicas: int = Field(ge=1, default=8)
    """Number of replicas in a scenario without `scaling`."""
    startup_s: float = Field(ge=0, default=120)
    """Time from the decision for a replica until it takes requests."""
    routers: int = Field(ge=1, default=1)
    router_lag_ms: float = Field(ge=0, default=10)
    """Time until a router receives what another one published."""
    placement: PolicyName = "least_cost"
    max_wait_s: float = Field(gt=0, default=30)
    """The longest time that a request waits for headroom on a replica."""

    @model_validator(mode="after")
    def _variant_is_known(self) -> "FleetConfig":
        variants = catalogue.find(self.model).variants
        if self.variant is not None and self.variant not in variants:
            raise wrong(
                "variant",
                f"{self.model} has no variant '{self.variant}'; "
                f"it has: {', '.join(variants) or 'none'}",
            )
        return self

    def entry(self) -> CatalogueEntry:
        """The catalogue entry on this fleet's GPUs. Raises CatalogueError if they cannot run it."""
        return (
            catalogue.find(self.model)
            .entry(self.variant)
            .on(
                gpu=self.gpu,
                tensor_parallel_size=self.tensor_parallel_size,
                context_tokens=self.context_tokens,
            )
        )


class SloConfig(Section):
    """The limits within which a request counts as good."""

    ttft_s: float = Field(gt=0, default=2.0)
    """Time to first token."""
    itl_ms: float = Field(gt=0, default=50.0)
    """Mean time between the tokens of an answer."""

    def slo(self) -> Slo:
        return Slo(self.ttft_s, self.itl_ms / 1000)


class Scenario(Section):
    """A load on a fleet. Every field has a default."""

    fleet: FleetConfig = FleetConfig()
    load: LoadConfig = LoadConfig()
    tenants: tuple[TenantLoad, ...] = ()
    """Tenants that share the fleet, each with a load of its own in place of `load`."""
    adapters: AdaptersConfig | None = None
    """LoRA adapters that the requests ask for."""
    slo: SloConfig = SloConfig()
    scaling: ScalingConfig | None = None
    """Scales the fleet between `min_replicas` and `max_replicas`, in place of `fleet.replicas`."""
    seed: int = 0
    """Runs of one scenario with the same seed give the same report, byte for byte."""

    @model_validator(mode="after")
    def _has_one_number_of_replicas(self) -> "Scenario":
        if self.scaling is not None and "replicas" in self.fleet.model_fields_set:
            raise wrong(
                "fleet.replicas", "cannot be combined with scaling; set only one of the two"
            )
        return self

    @model_validator(mode="after")
    def _has_one_load_of_each_tenant(self) -> "Scenario":
        if self.tenants and "load" in self.model_fields_set:
            raise wrong("load", "cannot be combined with tenants; each of them has a load")
        names = [tenant.name for tenant in self.tenants]
        for name in names:
            if names.count(name) > 1:
                raise wrong("tenants", f"the tenant '{name}' is listed twice")
        return self

    @property
    def first_replicas(self) -> int:
        """Number of replicas that are up when the run begins."""
        return self.fleet.replicas if self.scaling is None else self.scaling.min_replicas

    def settings(self) -> dict[str, Any]:
        """The fields that differ from the defaults, as JSON values: the content of a scenario
        file."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def overrides(self) -> list[str]:
        """The settings as `FIELD=VALUE`, for the command line."""
        return list(_flat(self.settings()))


def read(path: Path | None, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario of a YAML file, or the default one, with `FIELD=VALUE` overrides such as
    `fleet.replicas=16`. Paths in the file are relative to it. Raises ScenarioError."""
    scenario = Scenario()
    if path is not None:
        try:
            document = parse_yaml(path.read_bytes())
        except OSError as error:
            raise ScenarioError(f"{path}: {error.strerror or error}") from None
        except NotYamlError as error:
            raise ScenarioError(f"{path}: {error}") from None
        scenario = _validated(f"{path}: ", {} if document is None else document, path.parent)
    if not overrides:
        return scenario
    document = scenario.model_dump(exclude_unset=True)
    for override in overrides:
        try:
            set_field(override, document)
        except ValueError as error:
            raise ScenarioError(str(error)) from None
    return _validated("", document, Path())


def _validated(where: str, document: Any, folder: Path) -> Scenario:
    try:
        return Scenario.model_validate(document, context=folder)
    except ValidationError as error:
        mistakes = explain(error, Scenario)
        lines = (
            f"{where}{field}: {says}" if field else f"{where}{says}" for field, says in mistakes
        )
        raise ScenarioError("\n".join(lines)) from None


def _flat(settings: dict[str, Any], section: str = "") -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{section}{name}.")
        else:
            yield f"{section}{name}={value}"
