"""A model's layers with random weights and the same products."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from serving.calibration.shapes import Shapes

Dtype = Literal["bf16", "fp8"]

_FP8 = torch.float8_e4m3fn
_LEAST_ROWS = 17


class UnsupportedError(Exception):
    """The device has no products of that type."""


class Layers:
    """Some layers without their attention, and the head, which is in bf16. Unlike vLLM's, norms and
    activations are not fused."""

    def __init__(self, shapes: Shapes, layers: int, dtype: Dtype, device: torch.device) -> None:
        """Raises UnsupportedError if the device has no products of that type."""
        self._shapes = shapes
        self._norm = torch.ones(shapes.hidden, dtype=torch.bfloat16, device=device)
        self._one = torch.ones((), dtype=torch.float32, device=device)
        self._head = _random((shapes.vocab, shapes.hidden), device)
        matrices = [[_random(shape, device) for shape in shapes.layer] for _ in range(layers)]
        self._product: Callable[[Tensor, Tensor], Tensor] = functional.linear
        if dtype == "fp8":
            matrices = [[matrix.to(_FP8) for matrix in layer] for layer in matrices]
            self._product = self._fp8_product
        self._layers = matrices
        try:
            self.run(_random((16, shapes.hidden), device))
        except (RuntimeError, NotImplementedError) as error:
            raise UnsupportedError(str(error).splitlines()[0]) from None

    def run(self, states: Tensor) -> Tensor:
        """Runs the layers. `states` has the shape (tokens, hidden)."""
        shapes, product = self._shapes, self._product
        for qkv, out, gate_up, down in self._layers:
            attended = product(self._normed(states), qkv)[:, : shapes.query]
            states = states + product(attended, out)
            gated = product(self._normed(states), gate_up)
            gate, up = gated[:, : shapes.ffn], gated[:, shapes.ffn :]
            states = states + product(functional.silu(gate) * up, down)
        return states

    def head(self, states: Tensor) -> Tensor:
        return functional.linear(states, self._head)

    def _normed(self, states: Tensor) -> Tensor:
        return functional.rms_norm(states, (self._shapes.hidden,), self._norm)

    def _fp8_product(self, states: Tensor, matrix: Tensor) -> Tensor:
        """A product with one scale for each side, as vLLM's static FP8, which also pads small
        batches: PyTorch is slow with them."""
        rows = states.shape[0]
        if rows < _LEAST_ROWS:
            states = functional.pad(states, (0, 0, 0, _LEAST_ROWS - rows))
        product = torch._scaled_mm(
            states.to(_FP8).contiguous(),
            matrix.t(),
            scale_a=self._one,
            scale_b=self._one,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
        return product[:rows]


def prompt_attention(shapes: Shapes, tokens: int, device: torch.device) -> Callable[[], Tensor]:
    """Attention of a prompt to itself, in one layer."""
    query = _random((1, shapes.query_heads, tokens, shapes.head_dim), device)
    key = _random((1, shapes.kv_heads, tokens, shapes.head_dim), device)
    value = torch.clone(key)
    return lambda: functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, enable_gqa=True
    )


def decode_attention(
    shapes: Shapes, sequences: int, context_tokens: int, device: torch.device
) -> Callable[[], Tensor]:
    """Attention of one token of each sequence, in one layer. Heads that share keys and values form
    one query, so that these are read once.
    """
    group = shapes.query_heads // shapes.kv_heads
    query = _random((sequences, shapes.kv_heads, group, shapes.head_dim), device)
    key = _random((sequences, shapes.kv_heads, context_tokens, shapes.head_dim), device)
    value = torch.clone(key)
    return lambda: functional.scaled_dot_product_attention(query, key, value)


def _random(shape: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.randn(shape, dtype=torch.bfloat16, device=device) * 0.02
