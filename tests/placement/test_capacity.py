import pytest

from serving.placement import Capacity


@pytest.mark.parametrize(
    ("kv_tokens", "share"), [(1, 0.25), (250, 0.25), (500, 0.5), (1000, 1.0), (5000, 1.0)]
)
def test_a_share_is_of_memory_or_batch_whichever_is_more(kv_tokens: int, share: float) -> None:
    assert Capacity(kv_cache_tokens=1000, max_num_seqs=4).share(kv_tokens) == share
