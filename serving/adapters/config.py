"""The declaration of an adapter, in a config file or in a file of its own."""

import re
from collections.abc import Sequence

from pydantic import Field, model_validator

from serving.catalogue import CatalogueEntry
from serving.catalogue.lora import Lora
from serving.section import Section, wrong
from serving.tenants.api_key import TENANT_NAME

ADAPTER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9][A-Za-z0-9._:-]*)?$"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


class AdapterConfig(Section):
    """A LoRA adapter of a model."""

    name: str = Field(pattern=ADAPTER_NAME, max_length=96)
    """The model id by which requests ask for it."""
    source: str
    """A folder that routers and engines see under the same path, or a Hugging Face repository, with
    adapter_config.json and adapter_model.safetensors as PEFT writes them."""
    revision: str | None = None
    """Commit of the repository, which must be given, so that no name changes what it means."""
    base: str | None = None
    """The name that adapter_config.json has for the model, where it is none of the model's own."""
    tenants: tuple[str, ...] | None = None
    """The tenants that may use and list it; without the setting all may."""

    @model_validator(mode="after")
    def _source_is_pinned(self) -> "AdapterConfig":
        if self.is_folder:
            if self.revision is not None:
                raise wrong("revision", "a folder has none; only a repository has")
            return self
        if not _REPOSITORY.fullmatch(self.source):
            raise wrong(
                "source",
                "allowed is an absolute path of a folder, or a repository as owner/name "
                f"(got '{self.source}')",
            )
        if self.revision is None or not _COMMIT.fullmatch(self.revision):
            raise wrong("revision", "a repository needs the commit to take, as 40 hex digits")
        return self

    @model_validator(mode="after")
    def _tenants_are_names(self) -> "AdapterConfig":
        for tenant in self.tenants or ():
            if not re.fullmatch(TENANT_NAME, tenant):
                raise wrong("tenants", f"'{tenant}' is no tenant's name")
        return self

    @property
    def is_folder(self) -> bool:
        return self.source.startswith("/")

    def may_be_used_by(self, tenant: str) -> bool:
        return self.tenants is None or tenant in self.tenants


def check_adapters(
    adapters: Sequence[AdapterConfig], folder: str | None, lora: Lora | None
) -> None:
    """Raises the error of a section for settings of a model's adapters that contradict."""
    if folder is not None and not folder.startswith("/"):
        raise wrong("adapters_folder", f"allowed is an absolute path (got '{folder}')")
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
