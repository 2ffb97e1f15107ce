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
    """45.8 GFLOP of a token are those of 69,900 tokens of context; fp8 products take half."""
    bf16 = engine_spec(catalogue.load(SMALL, "bf16-tp1")).step_time
    fp8 = engine_spec(catalogue.load(SMALL, "fp8")).step_time
    assert bf16.attention_tokens == pytest.approx(69_900, rel=0.01)
    for step_time in (bf16, fp8):
        per_s = step_time.attention_tokens * step_time.prefill_tokens_per_s
        assert per_s == pytest.approx(69_900 * 10_800, rel=0.01)


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
        ({"gpu": "A100-40GB", "tensor_parallel_size": 1}, "does not fit"),
    ],
)
def test_what_cannot_be_simulated_is_said(update: dict[str, object], said: str) -> None:
    entry = catalogue.load(SMALL, "bf16-tp2").model_copy(update=update)
    with pytest.raises(SpecError, match=said):
        engine_spec(entry)
