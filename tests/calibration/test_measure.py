import pytest
import torch

from serving.calibration import measure as module
from serving.calibration.layers import Dtype, Layers, UnsupportedError, decode_attention
from serving.calibration.measure import SMALL, measure
from serving.calibration.shapes import Shapes

TINY = Shapes(hidden=64, query_heads=4, kv_heads=2, head_dim=32, ffn=96, vocab=256)
CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_all_sizes_are_timed(dtype: Dtype) -> None:
    times = measure(TINY, dtype, CPU, SMALL)
    assert set(times.layer_ms) == {*SMALL.batches, *SMALL.prompt_tokens}
    assert set(times.head_ms) == set(SMALL.batches)
    assert set(times.prompt_attention_ms) == set(SMALL.prompt_tokens)
    assert set(times.decode_attention_ms) == set(SMALL.decode_contexts)
    for column in (times.layer_ms, times.head_ms, times.prompt_attention_ms):
        assert min(column.values()) > 0


def test_what_does_not_fit_into_memory_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    one = 2 * 4 * 128 * TINY.kv_heads * TINY.head_dim * 2
    monkeypatch.setattr(module, "_spare_bytes", lambda _: one)
    assert set(measure(TINY, "bf16", CPU, SMALL).decode_attention_ms) == {(4, 128)}


def test_fp8_layers_compute_what_bf16_layers_do() -> None:
    states = torch.randn(8, TINY.hidden, dtype=torch.bfloat16)
    outputs = []
    for dtype in ("bf16", "fp8"):
        torch.manual_seed(1)
        outputs.append(Layers(TINY, 2, dtype, CPU).run(states) - states)
    difference = (outputs[0] - outputs[1]).norm() / outputs[0].norm()
    assert difference < 0.2


def test_a_device_without_such_products_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("only on devices with compute capability >= 8.9\nand a stack")

    monkeypatch.setattr(torch, "_scaled_mm", refuse)
    with pytest.raises(UnsupportedError, match=r"compute capability >= 8\.9$"):
        Layers(TINY, 1, "fp8", CPU)


def test_decoding_sequences_attend_to_their_whole_context() -> None:
    attended = decode_attention(TINY, 3, 50, CPU)()
    assert attended.shape == (3, TINY.kv_heads, 2, TINY.head_dim)
