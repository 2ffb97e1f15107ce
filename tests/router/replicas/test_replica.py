from serving.placement import Capacity
from serving.router.replicas.replica import ReplicaInfo


def test_a_replica_describes_itself_in_its_metadata() -> None:
    metadata = {
        "host": "10.0.0.1",
        "port": 9000,
        "max_model_len": 8192,
        "kv_cache_tokens": 100_000,
        "max_num_seqs": 64,
    }
    info = ReplicaInfo.from_metadata("replica-0", metadata)
    assert info == ReplicaInfo("replica-0", "10.0.0.1", 9000, 8192, Capacity(100_000, 64))
    with_host = ReplicaInfo.from_metadata("replica-0", metadata | {"host_kv_cache_tokens": 300_000})
    assert with_host.capacity.kv_cache_tokens == 100_000
    assert with_host.capacity.prefix_cache_tokens == 300_000
