"""The model that adapters are for, with the shape of its network."""

from collections.abc import Mapping
from typing import Any

from serving.adapters.files import AdapterError
from serving.adapters.fit import Base
from serving.catalogue import CatalogueEntry
from serving.catalogue.claims import WeightsFile
from serving.catalogue.lora import Lora
from serving.catalogue.memory import Network, Vision
from serving.weights_claims import network_file

_PARAMS = {
    "dim": "hidden_size",
    "n_layers": "layers",
    "n_heads": "heads",
    "n_kv_heads": "kv_heads",
    "head_dim": "head_dim",
    "hidden_dim": "ffn_size",
    "vocab_size": "vocab_size",
}
"""The fields of params.json, by those of `Network`."""
_CONFIG = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_dim",
    "intermediate_size": "ffn_size",
    "vocab_size": "vocab_size",
}
"""The fields of config.json, likewise."""


def base_of(entry: CatalogueEntry) -> Base:
    """Returns what adapters must fit: by the entry or, if it has no `network`, by the weights' own
    files. Raises AdapterError if neither tells, and for a model that takes no adapters."""
    if entry.kind != "vllm":
        raise AdapterError(f"{entry.id} runs on another server, which has adapters of its own")
    if entry.model_impl == "transformers":
        raise AdapterError(f"{entry.id} runs with model_impl transformers, which takes no adapters")
    network = entry.network or _network_of(network_file(entry))
    if network is None:
        raise AdapterError(
            f"{entry.id}: the shape of its network is not known: set `network` in its file"
        )
    names = (entry.id, *entry.aliases) if entry.embedded else (entry.id, entry.weights)
    return Base(entry.id, names, network, entry.lora or Lora())


def _network_of(file: WeightsFile | None) -> Network | None:
    if file is None:
        return None
    text: Mapping[str, Any] = file.content.get("text_config") or file.content
    fields = _PARAMS if "n_layers" in text else _CONFIG
    shape = {ours: text.get(theirs) for theirs, ours in fields.items()}
    if not all(type(value) is int for value in shape.values()):
        return None
    vision = file.content.get("vision_encoder") or file.content.get("vision_config")
    return Network.model_validate(shape | {"vision": _vision_of(vision)})


def _vision_of(vision: Mapping[str, Any] | None) -> Vision | None:
    if not vision:
        return None
    return Vision(
        hidden_size=vision["hidden_size"],
        layers=vision["num_hidden_layers"],
        ffn_size=vision["intermediate_size"],
        patch_size=vision["patch_size"],
        merge_size=vision.get("spatial_merge_size", 2),
    )
