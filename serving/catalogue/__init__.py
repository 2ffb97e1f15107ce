"""The models that can be served: one YAML file each, beside this module."""

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

EMBEDDED = "embedded"
"""As `weights`: a tiny model that this package trains itself; `embedded:2501` names another of
`serving.tiny.PRESETS` than the first."""


class CatalogueEntry(BaseModel):
    """How a model is served. `vllm_args` are flags of `vllm serve` without their dashes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()
    weights: str
    """A Hugging Face repository id, a folder, or "embedded" (or "embedded:" and a preset)."""
    accelerator: Literal["cpu", "gpu"]
    host_memory_gib: float = Field(gt=0)
    """Main memory of a replica, all its processes together."""
    tensor_parallel_size: int = Field(ge=1, default=1)
    pipeline_parallel_size: int = Field(ge=1, default=1)
    vllm_args: dict[str, Any] = {}
    env: dict[str, str] = {}

    @property
    def embedded(self) -> str | None:
        """The preset of `serving.tiny` that `weights` names; None for weights from elsewhere."""
        kind, _, preset = self.weights.partition(":")
        return (preset or "3.2") if kind == EMBEDDED else None


def names() -> list[str]:
    """The names of the entries, sorted."""
    files = resources.files(__name__).iterdir()
    return sorted(Path(f.name).stem for f in files if f.name.endswith(".yaml"))


def load(name: str) -> CatalogueEntry:
    """The entry of that name. Raises KeyError if there is none."""
    if name not in names():
        raise KeyError(name)
    text = resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return CatalogueEntry.model_validate(yaml.safe_load(text))
