"""The Pixtral vision encoder and projector, with Mistral's native parameter names."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import FeedForward, RMSNorm, rotate_pairs
from .spec import VisionSpec

_NORM_EPS = 1e-5


class _Attention(nn.Module):
    """Full attention within each image; no image attends to another."""

    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        width = spec.hidden_size
        self.n_heads = spec.num_attention_heads
        self.wq = nn.Linear(width, width, bias=False)
        self.wk = nn.Linear(width, width, bias=False)
        self.wv = nn.Linear(width, width, bias=False)
        self.wo = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, angles: Tensor, patches: list[int]) -> Tensor:
        q, k, v = (w(x).view(len(x), self.n_heads, -1) for w in (self.wq, self.wk, self.wv))
        q, k = rotate_pairs(q, angles), rotate_pairs(k, angles)
        out = [
            F.scaled_dot_product_attention(
                qi.transpose(0, 1), ki.transpose(0, 1), vi.transpose(0, 1)
            )
            .transpose(0, 1)
            .flatten(1)
            for qi, ki, vi in zip(*(torch.split(t, patches) for t in (q, k, v)), strict=True)
        ]
        result: Tensor = self.wo(torch.cat(out))
        return result


class _Block(nn.Module):
    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        self.attention = _Attention(spec)
        self.feed_forward = FeedForward(spec.hidden_size, spec.intermediate_size)
        self.attention_norm = RMSNorm(spec.hidden_size, _NORM_EPS)
        self.ffn_norm = RMSNorm(spec.hidden_size, _NORM_EPS)

    def forward(self, x: Tensor, angles: Tensor, patches: list[int]) -> Tensor:
        x = x + self.attention(self.attention_norm(x), angles, patches)
        out: Tensor = x + self.feed_forward(self.ffn_norm(x))
        return out


class _Blocks(nn.Module):
    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Block(spec) for _ in range(spec.num_hidden_layers))


class VisionEncoder(nn.Module):
    """Converts images to one feature vector for each patch of ``patch_size`` squared pixels."""

    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        self.spec = spec
        self.patch_conv = nn.Conv2d(
            spec.num_channels, spec.hidden_size, spec.patch_size, spec.patch_size, bias=False
        )
        self.ln_pre = RMSNorm(spec.hidden_size, _NORM_EPS)
        self.transformer = _Blocks(spec)

    def forward(self, images: list[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """Encodes images of shape (3, height, width), with sides a multiple of the patch.

        Returns features (patches of all images, hidden_size) and each image's patch grid (rows,
        columns).
        """
        dtype = self.patch_conv.weight.dtype
        maps = [self.patch_conv(image.to(dtype)[None])[0] for image in images]
        grids = [(m.shape[1], m.shape[2]) for m in maps]
        x = self.ln_pre(torch.cat([m.flatten(1).T for m in maps]))
        angles = torch.cat([self._angles(*grid) for grid in grids])
        for layer in self.transformer.layers:
            x = layer(x, angles, [rows * columns for rows, columns in grids])
        return x, grids

    def _angles(self, rows: int, columns: int) -> Tensor:
        """Rotary angles (patches, head_dim / 2): even frequencies by row, odd ones by column."""
        head_dim = self.spec.hidden_size // self.spec.num_attention_heads
        powers = torch.arange(0, head_dim, 2).float() / head_dim
        freqs = 1.0 / self.spec.rope_theta**powers
        by_row = torch.arange(rows).float()[:, None] * freqs[::2]
        by_column = torch.arange(columns).float()[:, None] * freqs[1::2]
        grid = torch.cat(
            [by_row[:, None].expand(-1, columns, -1), by_column[None].expand(rows, -1, -1)], dim=-1
        )
        return grid.flatten(0, 1)


class PatchMerger(nn.Module):
    """Merges each square of ``spatial_merge_size`` squared patches into one feature."""

    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        self.size = spec.spatial_merge_size
        self.merging_layer = nn.Linear(
            spec.hidden_size * self.size**2, spec.hidden_size, bias=False
        )

    def forward(self, x: Tensor, grids: list[tuple[int, int]]) -> Tensor:
        merged, s = [], self.size
        for part, (rows, columns) in zip(
            torch.split(x, [r * c for r, c in grids]), grids, strict=True
        ):
            squares = part.view(rows // s, s, columns // s, s, -1).permute(0, 2, 4, 1, 3)
            merged.append(squares.flatten(0, 1).flatten(1))
        out: Tensor = self.merging_layer(torch.cat(merged))
        return out


class VisionLanguageAdapter(nn.Module):
    """Projects image features to the width of the text decoder."""

    def __init__(self, spec: VisionSpec, dim: int) -> None:
        super().__init__()
        self.w_in = nn.Linear(spec.hidden_size, dim, bias=spec.adapter_bias)
        self.w_out = nn.Linear(dim, dim, bias=spec.adapter_bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w_out(F.gelu(self.w_in(x)))
        return out
