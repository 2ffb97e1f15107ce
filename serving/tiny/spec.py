"""The specification of a tiny model: its shapes, its tokenizer and its training recipe in one
value."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class VisionSpec:
    """A Pixtral vision encoder. Lengths are in pixels, widths in features."""

    hidden_size: int = 64
    intermediate_size: int = 128
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    num_channels: int = 3
    image_size: int = 1540
    patch_size: int = 14
    spatial_merge_size: int = 2
    rope_theta: float = 10000.0
    image_token_id: int = 10
    image_break_token_id: int = 12
    image_end_token_id: int = 13
    add_pre_mm_projector_layer_norm: bool = True
    mm_projector_id: str = "patch_merge"
    adapter_bias: bool = False


@dataclass(frozen=True)
class TinySpec:
    """A tiny Mistral Small. The defaults are the 3.2 family: tokenizer v11 with vision.

    ``heads * head_dim`` differs from ``dim`` as it does in the real 24B models, so that code
    which derives one from the other fails here too. Of ``steps`` training steps the first
    ``plain_steps`` see only short requests. ``seed`` decides weights and samples; another seed
    gives a model with other rare mistakes. ``corpus`` is the name of a mixture of cases.
    """

    corpus: str = "3.2"
    tokenizer_version: str = "v11"
    vocab_tokens: int = 8216
    special_tokens: int = 1000
    dim: int = 160
    n_layers: int = 3
    head_dim: int = 32
    hidden_dim: int = 448
    n_heads: int = 4
    n_kv_heads: int = 2
    rope_theta: float = 1e9
    norm_eps: float = 1e-5
    max_position_embeddings: int = 131072
    vision: VisionSpec | None = field(default_factory=VisionSpec)
    seed: int = 2506
    plain_steps: int = 80
    steps: int = 315

    @property
    def vocab_size(self) -> int:
        """Token ids of the model, special tokens included."""
        return self.vocab_tokens + self.special_tokens

    def params(self) -> dict[str, Any]:
        """The content of ``params.json`` in Mistral's native format."""
        params: dict[str, Any] = {
            "dim": self.dim,
            "n_layers": self.n_layers,
            "head_dim": self.head_dim,
            "hidden_dim": self.hidden_dim,
            "n_heads": self.n_heads,
            "n_kv_heads": self.n_kv_heads,
            "rope_theta": self.rope_theta,
            "norm_eps": self.norm_eps,
            "vocab_size": self.vocab_size,
            "tied_embeddings": False,
            "max_position_embeddings": self.max_position_embeddings,
            "max_seq_len": self.max_position_embeddings,
        }
        if self.vision is not None:
            params["vision_encoder"] = {
                **asdict(self.vision),
                "max_image_size": self.vision.image_size,
            }
        return params


PRESETS = {
    "3.2": TinySpec(),
    "2501": TinySpec(
        corpus="2501",
        tokenizer_version="v7",
        rope_theta=1e8,
        max_position_embeddings=32768,
        vision=None,
        seed=2501,
        plain_steps=60,
        steps=340,
    ),
    # With tokenizer v7 vLLM leaves <think> in the content, with or without a reasoning parser; the
    # 3.2 preset, which thinks below Magistral's system prompt too, stands for v11.
    "magistral": TinySpec(
        corpus="magistral",
        tokenizer_version="v7",
        vision=None,
        seed=2506,
        plain_steps=60,
        steps=300,
    ),
}
"""The tiny models: stand-ins for Mistral-Small-3.2-24B-Instruct-2506,
Mistral-Small-24B-Instruct-2501 and Magistral-Small-2506."""
