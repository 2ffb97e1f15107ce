"""Whether an adapter fits a model: pure, over what its files say."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serving.adapters.files import AdapterFiles, Tensor
from serving.catalogue.lora import Lora, module_shapes
from serving.catalogue.memory import GIB, Network

_TENSOR = re.compile(
    r"(?:base_model\.model\.)?"
    r"(?:model\.language_model\.|language_model\.model\.|model\.|language_model\.)"
    r"layers\.(\d+)\.((?:self_attn|mlp)\.\w+)\.lora_([AB])(?:\.default)?\.weight"
)
"""The names of tensors by PEFT, with all that Transformers has called the decoder of Mistral's
models."""

_PLAIN_INITS = frozenset(("gaussian", "eva", "orthogonal", "mica", "lora_ga"))
"""Initialisations that leave the model's own weights as they were."""


@dataclass(frozen=True, slots=True)
class Base:
    """The model that adapters are for."""

    model_id: str
    names: tuple[str, ...]
    """Names that an adapter may have for it: its own, and those of its weights."""
    network: Network
    lora: Lora


def misfits(
    files: AdapterFiles, base: Base, trained_on: str | None = None, rank: int | None = None
) -> list[str]:
    """Returns the reasons why an adapter cannot be served with a model, of each kind the first.
    `trained_on` is the name that it may have for the model beside the model's own, and `rank` a
    limit of its own."""
    return [
        *_of_base(files.config, base, trained_on),
        *_of_method(files.config),
        *_of_rank(files, base.lora.max_lora_rank, rank),
        *_of_modules(files.tensors, base.network),
        *_of_memory(files, base.lora),
    ]


def canonical_name(tensor: str, network: Network) -> str:
    """Returns the name that vLLM knows a tensor of an adapter by, which depends on whether the
    model sees images. Raises ValueError for a tensor of no decoder layer."""
    match = _TENSOR.fullmatch(tensor)
    if match is None:
        raise ValueError(tensor)
    layer, module, side = match.groups()
    decoder = "model" if network.vision is None else "language_model.model"
    return f"base_model.model.{decoder}.layers.{layer}.{module}.lora_{side}.weight"


def _of_base(config: Mapping[str, Any], base: Base, trained_on: str | None) -> Iterator[str]:
    name = config.get("base_model_name_or_path")
    if not isinstance(name, str) or not name or name == trained_on:
        return
    if not _is_of(name, base.names):
        yield (
            f"wrong base: it was trained on {name}, and the model is {base.model_id}. If that is "
            f"another name of the same model, declare it as `base: {name}`"
        )


def _is_of(name: str, names: Collection[str]) -> bool:
    """Whether a name, which may be a path or a repository of another owner, means the model:
    quantised copies for training have its name with an ending, as `-bnb-4bit`."""
    last = _last_part(name)
    return any(last == own or last.startswith(f"{own}-") for own in map(_last_part, names))


def _last_part(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].lower()


def _of_method(config: Mapping[str, Any]) -> Iterator[str]:
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        yield f"unsupported method: it is of the type {kind}; served are LORA adapters"
        return
    init = config.get("init_lora_weights", True)
    unsupported = {
        "DoRA (use_dora)": config.get("use_dora"),
        "bias": config.get("bias", "none") != "none" or config.get("lora_bias"),
        "whole modules (modules_to_save)": config.get("modules_to_save"),
        "trained tokens (trainable_token_indices)": config.get("trainable_token_indices"),
        "layer replication": config.get("layer_replication"),
        "activated LoRA": config.get("alora_invocation_tokens"),
        "QALoRA": config.get("use_qalora"),
        "block-diagonal LoRA": config.get("use_bdlora"),
        f"init_lora_weights={init}": isinstance(init, str) and init.lower() not in _PLAIN_INITS,
    }
    if found := [name for name, used in unsupported.items() if used]:
        yield (
            f"unsupported method: {', '.join(found)}. Merge it into the model's weights, or train "
            "without"
        )


def _of_rank(files: AdapterFiles, max_rank: int, own_max: int | None) -> Iterator[str]:
    rank, alpha = files.config.get("r"), files.config.get("lora_alpha")
    patterns = files.config.get("rank_pattern") or {}
    ranks = [rank, *patterns.values()] if isinstance(patterns, dict) else []
    if type(alpha) not in (int, float) or not all(type(one) is int and one > 0 for one in ranks):
        yield "broken files: adapter_config.json needs r and lora_alpha, as numbers above 0"
        return
    for name, tensor in files.tensors.items():
        if _side(name) == "A":
            ranks += tensor.shape[:1]
    if (highest := max(ranks)) > max_rank:
        yield (
            f"rank above the limit: it has rank {highest}, and lora.max_lora_rank is {max_rank}. "
            "Raise the limit, which takes memory for each of max_loras, or train with a lower rank"
        )
    elif own_max is not None and highest > own_max:
        yield f"rank above the limit: it has rank {highest}, and {own_max} is declared"


def _side(tensor: str) -> str | None:
    match = _TENSOR.fullmatch(tensor)
    return None if match is None else match[3]


def _of_modules(tensors: Mapping[str, Tensor], network: Network) -> Iterator[str]:
    if not tensors:
        yield "broken files: adapter_model.safetensors has no tensors"
        return
    shapes = module_shapes(network)
    pairs: dict[tuple[int, str], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None or match[2] not in shapes:
            yield (
                f"modules that do not exist: the model has no place for {name}. Served are "
                f"adapters of {', '.join(shape.split('.')[1] for shape in shapes)} in the decoder"
            )
            return
        layer = int(match[1])
        if layer >= network.layers:
            yield f"modules that do not exist: layer {layer}; the model has {network.layers}"
            return
        pairs.setdefault((layer, match[2]), {})[match[3]] = tensor
    for (layer, module), pair in pairs.items():
        where = f"layers.{layer}.{module}"
        if pair.keys() != {"A", "B"}:
            yield f"broken files: {where} has only lora_{next(iter(pair))}"
            return
        a, b = pair["A"].shape, pair["B"].shape
        outputs, inputs = shapes[module]
        if len(a) != 2 or len(b) != 2 or (b[0], a[1]) != (outputs, inputs) or a[0] != b[1]:
            yield (
                f"wrong shapes: {where} is {'x'.join(map(str, b))} times {'x'.join(map(str, a))}, "
                f"and the model's layer is {outputs}x{inputs}: it is of another model"
            )
            return


def _of_memory(files: AdapterFiles, lora: Lora) -> Iterator[str]:
    needed_gib = files.loaded_bytes / GIB
    if needed_gib > lora.host_cache_gib:
        yield (
            f"too little memory: it takes {needed_gib:.2f} GiB, and lora.host_cache_gib is "
            f"{lora.host_cache_gib:g}"
        )
