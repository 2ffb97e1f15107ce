import random
from dataclasses import replace

import pytest

from serving.placement.prefix import Prefix
from serving.simulator.engine import Engine, EngineSpec
from serving.simulator.request import Outcome, Request
from serving.simulator.step_time import StepTime
from serving.simulator.workload import PromptMaker
from tests.bench import simulator_validation

STEP_TIME = StepTime(
    prefill_tokens_per_s=10_000,
    weights_s=0.010,
    kv_token_s=1e-7,
    attention_s=0.0,
    overhead_s=0.0,
)


def spec(
    kv_cache_tokens: int = 100_000,
    max_num_batched_tokens: int = 2048,
    max_num_seqs: int = 256,
    request_overhead_s: float = 0.0,
) -> EngineSpec:
    return EngineSpec(
        STEP_TIME,
        kv_cache_tokens,
        max_num_batched_tokens,
        max_num_seqs,
        request_overhead_s=request_overhead_s,
    )


def run(engine: Engine, sent: list[tuple[float, Request]]) -> list[Outcome]:
    outcomes = simulator_validation.run(engine, sent)
    assert engine.running == engine.waiting == 0
    assert engine.cache.available == engine.cache.blocks
    return outcomes


def request(maker: PromptMaker, prompt_tokens: int, output_tokens: int) -> Request:
    return Request(maker.extend(None, prompt_tokens), output_tokens, maker.fresh())


def ttft_s(outcome: Outcome) -> float:
    assert outcome.ttft_s is not None
    return outcome.ttft_s


def itl_s(outcome: Outcome) -> float:
    assert outcome.itl_s is not None
    return outcome.itl_s


def test_a_request_alone_takes_its_prefill_and_its_decode_steps() -> None:
    engine = Engine(spec())
    (outcome,) = run(engine, [(1.0, request(PromptMaker(), 1000, 101))])
    assert ttft_s(outcome) == pytest.approx(0.1)
    assert itl_s(outcome) == pytest.approx(0.0101, rel=0.01)


def test_without_asynchronous_scheduling_a_request_gets_into_the_next_step() -> None:
    maker = PromptMaker()
    sent = [(0.0, request(maker, 100, 200)), (1.0005, request(maker, 100, 2))]
    second = run(Engine(spec()), sent)[1]
    earlier = run(Engine(replace(spec(), async_scheduling=False)), sent)[1]
    assert ttft_s(second) - ttft_s(earlier) == pytest.approx(0.010, rel=0.01)


def test_a_request_that_is_longer_than_the_context_is_refused() -> None:
    engine = Engine(replace(spec(), context_tokens=1000))
    with pytest.raises(ValueError, match="longer than the context"):
        engine.submit(Outcome(request(PromptMaker(), 900, 101), 0.0, 0), 0.0)
    engine.submit(Outcome(request(PromptMaker(), 900, 100), 0.0, 0), 0.0)


def test_a_long_prompt_is_read_in_chunks_between_which_others_decode() -> None:
    maker = PromptMaker()
    engine = Engine(spec())
    first, second = run(
        engine, [(0.0, request(maker, 100, 200)), (1.0, request(maker, 20_480, 10))]
    )
    assert ttft_s(second) == pytest.approx(2.05, rel=0.02)
    # 11 chunks of 0.2 s in place of steps of 0.01 s
    assert itl_s(first) == pytest.approx((188 * 0.010 + 2.05) / 199, rel=0.02)


def test_a_prompt_that_was_read_before_is_read_no_more_but_for_its_last_block() -> None:
    prompt = request(PromptMaker(), 1600, 2)
    first, second = run(Engine(spec()), [(0.0, prompt), (5.0, prompt)])
    assert first.cached_tokens == 0
    assert second.cached_tokens == 1584
    assert ttft_s(second) == pytest.approx(0.010)


def test_what_main_memory_keeps_is_copied_when_the_kv_cache_has_evicted_it() -> None:
    maker = PromptMaker()
    prompt, other = request(maker, 1600, 2), request(maker, 1986, 2)
    sent = [(0.0, prompt), (5.0, other), (10.0, prompt)]
    small = spec(kv_cache_tokens=2000)
    *_, evicted = run(Engine(small), sent)
    assert evicted.cached_tokens == 0
    keeping = replace(small, host_kv_cache_tokens=4000, host_token_s=1e-5)
    *_, copied = run(Engine(keeping), sent)
    assert copied.cached_tokens == 1584
    assert ttft_s(copied) == pytest.approx(0.010 + 1584e-5, rel=0.01)


def test_a_prompt_that_is_being_read_is_shared_as_far_as_it_is() -> None:
    prompt = request(PromptMaker(), 20_480, 2)
    first, second = run(Engine(spec()), [(0.0, prompt), (1.0, prompt)])
    assert first.cached_tokens == 0
    assert 8000 < second.cached_tokens < 20_480


def test_an_answer_is_a_prefix_of_the_next_turn() -> None:
    maker = PromptMaker()
    first = request(maker, 1000, 200)
    hashes = [*first.prefix.hashes, first.answer_hash, maker.fresh()]
    second = Request(Prefix(hashes, [*first.prefix.ends_tokens, 1200, 1300], 1300), 2, -1)
    _, outcome = run(Engine(spec()), [(0.0, first), (9.0, second)])
    # The last token was never an input, so its block is not whole.
    assert outcome.cached_tokens == 1184


def test_a_request_waits_for_a_sequence_to_end_when_the_batch_is_full() -> None:
    maker = PromptMaker()
    first, second = run(
        Engine(spec(max_num_seqs=1)),
        [(0.0, request(maker, 100, 100)), (0.1, request(maker, 100, 2))],
    )
    assert first.end_s is not None and second.first_token_s is not None
    assert second.first_token_s == pytest.approx(first.end_s + 0.01)


def test_a_request_waits_until_its_whole_prompt_has_room() -> None:
    maker = PromptMaker()
    first, second = run(
        Engine(spec(kv_cache_tokens=3200)),
        [(0.0, request(maker, 1600, 200)), (0.5, request(maker, 1600, 10))],
    )
    assert first.end_s is not None and second.first_token_s is not None
    assert second.first_token_s > first.end_s
    assert first.preemptions == second.preemptions == 0


def test_the_youngest_is_preempted_and_computed_again_when_blocks_run_out() -> None:
    maker = PromptMaker()
    first, second = run(
        Engine(spec(kv_cache_tokens=3200)),
        [(0.0, request(maker, 1600, 600)), (0.5, request(maker, 800, 500))],
    )
    assert (first.preemptions, second.preemptions) == (0, 1)
    assert first.end_s is not None and second.end_s is not None
    assert first.end_s < second.end_s


def test_a_request_that_can_never_fit_is_refused() -> None:
    outcome = Outcome(request(PromptMaker(), 3000, 300), 0.0, 0)
    with pytest.raises(ValueError):
        Engine(spec(kv_cache_tokens=3200)).submit(outcome, 0.0)


def test_a_busy_engine_takes_a_request_into_the_step_after_next() -> None:
    maker = PromptMaker()
    _, outcome = run(
        Engine(spec()), [(0.0, request(maker, 10, 500)), (1.005, request(maker, 100, 2))]
    )
    # the rest of the running step, the one already composed, and its own
    assert 0.020 < ttft_s(outcome) < 0.031


class StepByStep(Engine):
    def _decode_steps(self) -> int:
        return 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kv_cache_tokens", [6_400, 200_000])
def test_steps_passed_over_together_give_the_same_as_one_by_one(
    seed: int, kv_cache_tokens: int
) -> None:
    rng = random.Random(seed)
    maker = PromptMaker()
    shared = maker.extend(None, 700)
    at_s = 0.0
    sent = []
    for _ in range(60):
        at_s += rng.expovariate(4)
        prompt = maker.extend(rng.choice([None, shared]), rng.randint(1, 3000))
        sent.append((at_s, Request(prompt, rng.randint(1, 300), maker.fresh())))
    engine = spec(kv_cache_tokens, max_num_seqs=12, request_overhead_s=0.003)
    for fast, slow in zip(run(Engine(engine), sent), run(StepByStep(engine), sent), strict=True):
        assert fast.first_token_s == pytest.approx(slow.first_token_s)
        assert fast.end_s == pytest.approx(slow.end_s)
        assert fast.cached_tokens == slow.cached_tokens
        assert fast.preemptions == slow.preemptions
