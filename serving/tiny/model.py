"""The tiny Mistral Small in plain PyTorch.

Parameter names are those of Mistral's ``consolidated.safetensors``: the state dict is the file.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .batch import Batch
from .layers import FeedForward, RMSNorm, rotate_pairs
from .spec import TinySpec
from .vision import PatchMerger, VisionEncoder, VisionLanguageAdapter


class Attention(nn.Module):
    """Grouped-query causal attention over the sequences of a batch."""

    def __init__(self, spec: TinySpec) -> None:
        super().__init__()
        self.head_dim, self.groups = spec.head_dim, spec.n_heads // spec.n_kv_heads
        self.wq = nn.Linear(spec.dim, spec.n_heads * spec.head_dim, bias=False)
        self.wk = nn.Linear(spec.dim, spec.n_kv_heads * spec.head_dim, bias=False)
        self.wv = nn.Linear(spec.dim, spec.n_kv_heads * spec.head_dim, bias=False)
        self.wo = nn.Linear(spec.n_heads * spec.head_dim, spec.dim, bias=False)

    def forward(self, x: Tensor, angles: Tensor, blocks: list[tuple[int, int]]) -> Tensor:
        q, k, v = (w(x).view(len(x), -1, self.head_dim) for w in (self.wq, self.wk, self.wv))
        q, k = rotate_pairs(q, angles), rotate_pairs(k, angles)
        k, v = (t.repeat_interleave(self.groups, dim=1) for t in (k, v))
        sizes = [rows * length for rows, length in blocks]
        out = []
        for qb, kb, vb, block in zip(
            *(torch.split(t, sizes) for t in (q, k, v)), blocks, strict=True
        ):
            qb, kb, vb = (t.view(*block, *t.shape[1:]).transpose(1, 2) for t in (qb, kb, vb))
            mixed = F.scaled_dot_product_attention(qb, kb, vb, is_causal=True)
            out.append(mixed.transpose(1, 2).flatten(2).flatten(0, 1))
        result: Tensor = self.wo(torch.cat(out))
        return result


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each after a norm and added to its input."""

    def __init__(self, spec: TinySpec) -> None:
        super().__init__()
        self.attention = Attention(spec)
        self.feed_forward = FeedForward(spec.dim, spec.hidden_dim)
        self.attention_norm = RMSNorm(spec.dim, spec.norm_eps)
        self.ffn_norm = RMSNorm(spec.dim, spec.norm_eps)

    def forward(
        self, x: Tensor, angles: Tensor, blocks: list[tuple[int, int]], at: Tensor | None
    ) -> Tensor:
        """``at`` restricts the result, not the attention, to some of the tokens."""
        x = x + self.attention(self.attention_norm(x), angles, blocks)
        if at is not None:
            x = x[at]
        out: Tensor = x + self.feed_forward(self.ffn_norm(x))
        return out


class TinyMistral(nn.Module):
    """Text decoder, and a vision encoder when the spec has one."""

    def __init__(self, spec: TinySpec) -> None:
        super().__init__()
        self.spec = spec
        self.tok_embeddings = nn.Embedding(spec.vocab_size, spec.dim)
        self.layers = nn.ModuleList(TransformerBlock(spec) for _ in range(spec.n_layers))
        self.norm = RMSNorm(spec.dim, spec.norm_eps)
        self.output = nn.Linear(spec.dim, spec.vocab_size, bias=False)
        if spec.vision is not None:
            self.vision_encoder = VisionEncoder(spec.vision)
            self.pre_mm_projector_norm = RMSNorm(spec.vision.hidden_size, 1e-5)
            self.patch_merger = PatchMerger(spec.vision)
            self.vision_language_adapter = VisionLanguageAdapter(spec.vision, spec.dim)

    def embed_images(self, images: list[Tensor]) -> Tensor:
        """Embeddings (image tokens of all images, dim) of images (3, height, width)."""
        features, grids = self.vision_encoder(images)
        merged = self.patch_merger(self.pre_mm_projector_norm(features), grids)
        out: Tensor = self.vision_language_adapter(merged)
        return out

    def forward(self, batch: Batch) -> Tensor:
        """Final hidden states (targets, dim) at ``batch.at``; ``output`` converts them to
        logits."""
        x = self.tok_embeddings(batch.tokens)
        if batch.images and self.spec.vision is not None:
            where = batch.tokens == self.spec.vision.image_token_id
            x = x.index_put((where.nonzero()[:, 0],), self.embed_images(batch.images))
        freqs = 1.0 / self.spec.rope_theta ** (
            torch.arange(0, self.spec.head_dim, 2).float() / self.spec.head_dim
        )
        angles = batch.positions[:, None].float() * freqs
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            x = layer(x, angles, batch.blocks, batch.at if i == last else None)
        out: Tensor = self.norm(x)
        return out
