"""Times a model's shapes: prefill and decode, products and attention."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from serving.calibration.layers import Dtype, Layers, decode_attention, prompt_attention
from serving.calibration.shapes import Shapes
from serving.calibration.timing import median_ms

_BF16_BYTES = 2
_MEMORY_SHARE = 0.25
"""Share of a GPU's free memory for the layers, and for the KV cache of an attention."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The shapes to time. `layers` is the maximum number of different layers used in turn, so many
    that no cache holds their weights; `decode_contexts` are pairs of sequences and tokens of each.
    """

    prompt_tokens: tuple[int, ...] = (2048, 4096, 8192)
    batches: tuple[int, ...] = (1, 8, 32)
    decode_contexts: tuple[tuple[int, int], ...] = ((32, 4096), (128, 2048), (16, 16384))
    layers: int = 4
    repeats: int = 20


SMALL = Sizes((64, 128), (1, 4), ((4, 128), (8, 256)), layers=1, repeats=5)
"""Small shapes, to try the command on a CPU."""


@dataclass(frozen=True, slots=True)
class Times:
    """Times in ms on one GPU. Products of a layer, and of the head (`head_ms`), by tokens;
    attention by the tokens of a prompt, and by sequences and the context of each."""

    layer_ms: dict[int, float]
    head_ms: dict[int, float]
    prompt_attention_ms: dict[int, float]
    decode_attention_ms: dict[tuple[int, int], float]


def measure(
    shapes: Shapes,
    dtype: Dtype,
    device: torch.device,
    sizes: Sizes,
    say: Callable[[str], None] = lambda _: None,
) -> Times:
    """Times the shapes. `say` receives a description of each. Raises UnsupportedError."""
    with torch.inference_mode():
        torch.manual_seed(0)
        bytes_of_layer = shapes.layer_parameters * _BF16_BYTES
        most = max(int(_spare_bytes(device) / bytes_of_layer), 1)
        layers = Layers(shapes, min(sizes.layers, most), dtype, device)
        count = min(sizes.layers, most)
        layer_ms, head_ms = {}, {}
        for tokens in (*sizes.batches, *sizes.prompt_tokens):
            say(f"{dtype}, products of {tokens} tokens")
            states = torch.randn(tokens, shapes.hidden, dtype=torch.bfloat16, device=device)
            run = _bound(layers.run, states)
            layer_ms[tokens] = median_ms(run, device, sizes.repeats) / count
            if tokens in sizes.batches:
                head_ms[tokens] = median_ms(_bound(layers.head, states), device, sizes.repeats)
        del layers
        prompt_ms = {}
        for tokens in sizes.prompt_tokens:
            say(f"attention of a prompt of {tokens} tokens")
            prompt_ms[tokens] = median_ms(
                prompt_attention(shapes, tokens, device), device, sizes.repeats
            )
        decode_ms = {}
        for sequences, context in sizes.decode_contexts:
            if _kv_bytes(shapes, sequences * context) > _spare_bytes(device):
                continue
            say(f"attention of {sequences} sequences of {context} tokens")
            decode_ms[sequences, context] = median_ms(
                decode_attention(shapes, sequences, context, device), device, sizes.repeats
            )
    return Times(layer_ms, head_ms, prompt_ms, decode_ms)


def _bound(
    run: Callable[[torch.Tensor], torch.Tensor], states: torch.Tensor
) -> Callable[[], torch.Tensor]:
    return lambda: run(states)


def _kv_bytes(shapes: Shapes, tokens: int) -> int:
    return 2 * tokens * shapes.kv_heads * shapes.head_dim * _BF16_BYTES


def _spare_bytes(device: torch.device) -> float:
    if device.type != "cuda":
        return 2.0**28
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0] * _MEMORY_SHARE
