"""The embedded models in Hugging Face's format, for Transformers."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

_LAYER = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_VISION_LAYER = {
    "attention.wq": "attention.q_proj",
    "attention.wk": "attention.k_proj",
    "attention.wv": "attention.v_proj",
    "attention.wo": "attention.o_proj",
    "feed_forward.w1": "feed_forward.gate_proj",
    "feed_forward.w2": "feed_forward.down_proj",
    "feed_forward.w3": "feed_forward.up_proj",
}
_TEXT = {"tok_embeddings": "embed_tokens", "norm": "norm"}
_PROJECTOR = {
    "pre_mm_projector_norm": "norm",
    "patch_merger.merging_layer": "patch_merger.merging_layer",
    "vision_language_adapter.w_in": "linear_1",
    "vision_language_adapter.w_out": "linear_2",
}


def write_hugging_face(source: Path, target: Path) -> None:
    """Writes the model in the folder `source`, which is in Mistral's format, to a new folder in
    Hugging Face's."""
    target.mkdir()
    params = json.loads((source / "params.json").read_text())
    has_vision = "vision_encoder" in params
    weights = {
        _name(name, has_vision): _rotated(name, weight, params)
        for name, weight in load_file(source / "consolidated.safetensors").items()
    }
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    config = _config(params) if has_vision else _text_config(params)
    (target / "config.json").write_text(json.dumps(config))
    shutil.copy(source / "tekken.json", target)


def _name(name: str, has_vision: bool) -> str:
    """The name of a weight in checkpoints of `MistralForCausalLM` or, with a vision encoder, of
    `Mistral3ForConditionalGeneration`."""
    name = name.removesuffix(".weight")
    text = "language_model.model" if has_vision else "model"
    if name == "output":
        name = text.removesuffix("model") + "lm_head"
    elif name in _PROJECTOR:
        name = f"multi_modal_projector.{_PROJECTOR[name]}"
    elif name.startswith("vision_encoder."):
        name = name.replace("vision_encoder", "vision_tower")
        for ours, theirs in _VISION_LAYER.items():
            name = name.replace(ours, theirs)
    elif name in _TEXT:
        name = f"{text}.{_TEXT[name]}"
    else:
        layers, number, part = name.split(".", 2)
        name = f"{text}.{layers}.{number}.{_LAYER[part]}"
    return f"{name}.weight"


def _rotated(name: str, weight: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
    """Moves the rows of queries and keys: Mistral's rotary embedding turns neighbouring ones
    together, Hugging Face's turns each with the one half a head away."""
    if not name.endswith(("attention.wq.weight", "attention.wk.weight")):
        return weight
    head_dim = params["head_dim"]
    if name.startswith("vision_encoder."):
        vision = params["vision_encoder"]
        head_dim = vision["hidden_size"] // vision["num_attention_heads"]
    rows, columns = weight.shape
    pairs = weight.view(rows // head_dim, head_dim // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns).contiguous()


def _text_config(params: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "hidden_size": params["dim"],
        "num_hidden_layers": params["n_layers"],
        "head_dim": params["head_dim"],
        "intermediate_size": params["hidden_dim"],
        "num_attention_heads": params["n_heads"],
        "num_key_value_heads": params["n_kv_heads"],
        "rope_theta": params["rope_theta"],
        "rms_norm_eps": params["norm_eps"],
        "vocab_size": params["vocab_size"],
        "max_position_embeddings": params["max_position_embeddings"],
        "tie_word_embeddings": params["tied_embeddings"],
        "sliding_window": None,
        "dtype": "bfloat16",
    }


def _config(params: dict[str, Any]) -> dict[str, Any]:
    vision = params["vision_encoder"]
    same = (
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("num_channels", "image_size", "patch_size", "rope_theta"),
    )
    return {
        "model_type": "mistral3",
        "architectures": ["Mistral3ForConditionalGeneration"],
        "text_config": _text_config(params),
        "vision_config": {
            "model_type": "pixtral",
            "hidden_act": "silu",
            **{field: vision[field] for field in same},
        },
        "image_token_index": vision["image_token_id"],
        "spatial_merge_size": vision["spatial_merge_size"],
        "multimodal_projector_bias": vision["adapter_bias"],
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -1,
        "tie_word_embeddings": params["tied_embeddings"],
        "dtype": "bfloat16",
    }
