"""A YAML file of the catalogue: an entry, and its variants for other hardware."""

from typing import Any

from pydantic import Field, ValidationError, model_validator

from serving.catalogue.entry import MAX_MODEL_LEN, CatalogueEntry, ModelImpl
from serving.catalogue.memory import KvCacheDtype, WeightsDtype
from serving.section import Section, explain, wrong


class Variant(Section):
    """The differences from the entry on other hardware or servers, or with other weights."""

    weights: str | None = None
    revision: str | None = None
    tokenizer_repository: str | None = None
    tokenizer_revision: str | None = None
    context_tokens: int | None = Field(ge=1, default=None, validation_alias=MAX_MODEL_LEN)
    image_limit: int | None = Field(ge=0, default=None)
    gpu: str | float | None = None
    tensor_parallel_size: int | None = Field(ge=1, default=None)
    pipeline_parallel_size: int | None = Field(ge=1, default=None)
    gpu_memory_utilization: float | None = Field(gt=0, le=1, default=None)
    host_memory_gib: float | None = Field(gt=0, default=None)
    host_kv_cache_gib: float | None = Field(ge=0, default=None)
    weights_dtype: WeightsDtype | None = None
    kv_cache_dtype: KvCacheDtype | None = None
    model_impl: ModelImpl | None = None
    base_url: str | None = None
    upstream_model: str | None = None
    verified: bool | None = None
    aliases: tuple[str, ...] = ()
    """Further names, beside the entry's."""
    vllm_args: dict[str, Any] = Field(default_factory=dict)
    """vLLM flags, which override the entry's one by one."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables, which override the entry's one by one."""


class CatalogueFile(CatalogueEntry):
    """A YAML file of the catalogue: an entry, and its variants, the default one first."""

    variants: dict[str, Variant] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _variants_are_valid(self) -> "CatalogueFile":
        for name in self.variants:
            try:
                self.entry(name)
            except ValidationError as error:
                field, message = explain(error, CatalogueEntry)[0]
                raise wrong(f"variants.{name}.{field}", message) from None
        return self

    def entry(self, variant: str | None = None) -> CatalogueEntry:
        """The entry in that variant, or the default one. Raises KeyError if there is no such
        variant."""
        name = variant if variant is not None else next(iter(self.variants), None)
        own = self.model_dump(exclude={"variants"}, exclude_unset=True)
        if name is None:
            return CatalogueEntry.model_validate(own)
        changed = self.variants[name].model_dump(exclude_unset=True)
        if "weights" in changed:
            changed = {"revision": None} | changed  # the entry's revision is of another repository
        for field in ("vllm_args", "env"):
            changed[field] = {**getattr(self, field), **changed.get(field, {})}
        changed["aliases"] = (*self.aliases, *changed.get("aliases", ()))
        return CatalogueEntry.model_validate({**own, **changed, "variant": name})
