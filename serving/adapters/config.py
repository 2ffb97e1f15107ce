"""The declaration of an adapter, in a config file or in a file of its own."""

import re
from collections.abc import Sequence

from pydantic import Field, model_validator

from serving.adapters.canary import Canary
from serving.adapters.source import Source
from serving.catalogue import CatalogueEntry
from serving.catalogue.lora import Lora
from serving.dispatch.tenant_limits import TenantLimits
from serving.section import wrong
from serving.tenants.tenant import TENANT_NAME

ADAPTER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9][A-Za-z0-9._:-]*)?$"

_LONGEST_NAME = 96


class AdapterConfig(Source):
    """A LoRA adapter of a model, whose own source is its stable version."""

    name: str = Field(pattern=ADAPTER_NAME, max_length=_LONGEST_NAME)
    """The model id by which requests ask for it."""
    base: str | None = None
    """The name that adapter_config.json has for the model, where it is none of the model's own."""
    aliases: tuple[str, ...] = ()
    """Further model ids for it."""
    rank: int | None = Field(ge=1, default=None)
    """The highest rank that it may have, below `lora.max_lora_rank`, which holds for all."""
    tenants: tuple[str, ...] | None = None
    """The tenants that may use and list it; without the setting all may."""
    limits: TenantLimits | None = None
    """How much all tenants together may use of it."""
    canary: Canary | None = None
    """A new version, which is tried beside the stable one."""

    @model_validator(mode="after")
    def _tenants_are_names(self) -> "AdapterConfig":
        for tenant in self.tenants or ():
            if not re.fullmatch(TENANT_NAME, tenant):
                raise wrong("tenants", f"'{tenant}' is no tenant's name")
        return self

    @model_validator(mode="after")
    def _aliases_are_names(self) -> "AdapterConfig":
        for alias in self.aliases:
            if not re.fullmatch(ADAPTER_NAME, alias) or len(alias) > _LONGEST_NAME:
                raise wrong("aliases", f"'{alias}' is no name of a model")
        if len({*self.names}) < len(self.names):
            raise wrong("aliases", "a name is there twice")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which requests may ask for it."""
        return (self.name, *self.aliases)

    @property
    def versions(self) -> tuple[Source, ...]:
        return (self,) if self.canary is None else (self, self.canary)

    def may_be_used_by(self, tenant: str) -> bool:
        return self.tenants is None or tenant in self.tenants

    def promoted(self) -> "AdapterConfig":
        """Returns it with the canary as the stable version."""
        assert self.canary is not None
        version = {name: getattr(self.canary, name) for name in Source.model_fields}
        return self.model_copy(update=version | {"canary": None})

    def withdrawn(self, reason: str) -> "AdapterConfig":
        """Returns it with a canary that gets no requests."""
        assert self.canary is not None
        return self.model_copy(
            update={"canary": self.canary.model_copy(update={"withdrawn": reason})}
        )


def check_adapters(
    adapters: Sequence[AdapterConfig], folder: str | None, lora: Lora | None
) -> None:
    """Raises the error of a section for settings of a model's adapters that contradict."""
    if folder is not None and not folder.startswith("/"):
        raise wrong("adapters_folder", f"allowed is an absolute path (got '{folder}')")
    for adapter in adapters:
        if adapter.canary is not None and adapter.canary.rule is not None:
            raise wrong(
                "adapters",
                f"{adapter.name}: only what is declared in adapters_folder may have a rule, as it "
                "changes the declaration",
            )
    if lora is not None and not adapters and folder is None:
        raise wrong("lora", "has no effect without adapters or adapters_folder")


def check_room(entry: CatalogueEntry) -> None:
    """Raises the error of a section if a replica has no room for adapters: not all of its GPUs see
    the files that its engine copies, or those that may run at the same time do not fit the main
    memory that is for them."""
    if entry.lora is None:
        return
    if entry.pipeline_parallel_size > 1:
        raise wrong(
            "pipeline_parallel_size",
            "must be 1 for a model with adapters, whose files are on one node; split its layers "
            "with tensor_parallel_size",
        )
    if entry.network is None:
        return
    needed_gib = entry.lora.running_gib(entry.network)
    if needed_gib > entry.lora.host_cache_gib:
        raise wrong(
            "lora",
            f"max_loras {entry.lora.max_loras} of rank {entry.lora.max_lora_rank} take "
            f"{needed_gib:.1f} GiB of main memory, and host_cache_gib is "
            f"{entry.lora.host_cache_gib:g}: raise it or lower one of the two",
        )
