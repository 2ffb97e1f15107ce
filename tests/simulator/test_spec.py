import pytest

from serving import catalogue
from serving.simulator.spec import SpecError, engine_spec

SMALL = "mistral-small-3.2-24b-instruct-2506"


def test_an_engine_has_the_speed_and_the_memory_of_the_catalogue() -> None:
    entry = catalogue.load(SMALL, "bf16-tp2")
    spec, speed, memory = engine_spec(entry), entry.first_speed(), entry.memory()
    assert speed and memory
    assert spec.kv_cache_tokens == memory.kv_tokens
    assert spec.step_time.prefill_tokens_per_s == speed.prefill_tokens_per_s
    assert 1000 * spec.step_time.decode_s(1, 1, 0) == pytest.approx(speed.step_ms)
    one = spec.step_time.decode_s(1, 1, 1000) - spec.step_time.decode_s(1, 1, 0)
    assert 1000 * one == pytest.approx(1000 * speed.step_ms_per_context_token)


def test_attention_costs_what_it_costs_in_any_format_of_the_weights() -> None:
    """655 kFLOP for each token of context, at half of 989 TFLOP/s: fp8 products take less, it does
    not.
    """
    for variant in ("bf16-tp1", "fp8"):
        step_time = engine_spec(catalogue.load(SMALL, variant)).step_time
        assert step_time.attention_s == pytest.approx(655e3 / (0.5 * 989e12), rel=0.01)


def test_batches_are_those_of_the_flags_or_of_vllm_on_such_a_gpu() -> None:
    entry = catalogue.load(SMALL, "bf16-tp2")
    spec = engine_spec(entry)
    assert (spec.max_num_batched_tokens, spec.max_num_seqs) == (8192, 1024)
    spec = engine_spec(catalogue.load(SMALL, "int4"))
    assert (spec.max_num_batched_tokens, spec.max_num_seqs) == (2048, 256)
    flags = {**entry.vllm_args, "max-num-batched-tokens": 4096, "max-num-seqs": 64}
    spec = engine_spec(entry.model_copy(update={"vllm_args": flags}))
    assert (spec.max_num_batched_tokens, spec.max_num_seqs) == (4096, 64)


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"gpu": None}, "no GPU of a known type"),
        ({"network": None}, "no network"),
        ({"gpu": 40.0}, "no GPU of a known type"),
        ({"gpu": "A100-40GB", "tensor_parallel_size": 1}, "of weights do not fit"),
    ],
)
def test_what_cannot_be_simulated_is_said(update: dict[str, object], said: str) -> None:
    entry = catalogue.load(SMALL, "bf16-tp2").model_copy(update=update)
    with pytest.raises(SpecError, match=said):
        engine_spec(entry)
