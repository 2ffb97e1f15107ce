"""Responses in Redis: what it does beside what every store does, and what happens without it."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from redis import Redis

from serving.router.responses import redis_store
from serving.router.responses.redis_store import LARGEST_BYTES, RedisStore
from serving.router.responses.store import News, StoredResponse, StoreError
from tests.support.redis_server import RedisServer, needs_redis

pytestmark = needs_redis
MIB = 1024**2


def response(response_id: str = "1", size: int = 100, status: str = "completed") -> StoredResponse:
    return StoredResponse("a", response_id, status, b"[]", b"x" * (size - 2))


def opened(redis: RedisServer, max_bytes: int = 100 * MIB, tenants: int = 1) -> RedisStore:
    return RedisStore(redis.url, redis.password, 3600, max_bytes, tenants)


def used_bytes(client: Redis) -> int:
    return int(client.info("memory")["used_memory"])


def test_its_own_clock_counts(redis: RedisServer) -> None:
    store = opened(redis)
    store.put(response(status="queued"))
    assert store.claim("x", 60) is None
    assert store.claim("x", 0) is not None


def test_all_of_it_ends_without_a_router_that_removes_it(redis: RedisServer) -> None:
    store = opened(redis)
    store.put(response("1"))
    store.put(response("2", status="queued"))
    store.report("x", {("a", "2"): News(0, [b"0"])})
    store.advance(response("2"))
    with redis.client() as client:
        keys = list(client.scan_iter())
        assert len(keys) == 6
        assert all(3590 < client.ttl(key) <= 3600 for key in keys)


@pytest.mark.parametrize("size", [500, 3000, 40_000])
def test_its_memory_is_bounded(redis: RedisServer, size: int) -> None:
    """The allocator rounds sizes up, by a quarter at most."""
    store, limit = opened(redis, MIB), MIB
    with redis.client() as client:
        store.put(response("first"))  # which loads the scripts
        before = used_bytes(client)
        for n in range(2 * limit // (size + 1024)):
            store.put(response(f"resp_{n:032}", size))
        assert 0.5 * limit < used_bytes(client) - before < 1.25 * limit


def test_the_largest_response_is_bounded(redis: RedisServer) -> None:
    store = opened(redis)
    assert store.largest_bytes == LARGEST_BYTES
    assert store.put(response("1", LARGEST_BYTES))
    assert not store.put(response("2", LARGEST_BYTES + 1))
    found = store.get("a", "1")
    assert found is not None and found.size_bytes == LARGEST_BYTES
    assert opened(redis, 10_000).largest_bytes < 10_000


def test_full_memory_is_a_store_error_and_evicts_nothing(redis: RedisServer) -> None:
    store = opened(redis)
    with redis.client() as client:
        client.set("RAY:state", "kept")
        store.put(response("1"))
        client.config_set("maxmemory", 1)
        try:
            for refused in (response("1"), response("2")):
                with pytest.raises(StoreError, match="maxmemory"):
                    store.put(refused)
            assert client.get("RAY:state") == b"kept"
            assert store.get("a", "1") is not None
            assert store.delete("a", "1"), "there can be room again"
        finally:
            client.config_set("maxmemory", 0)
    assert store.put(response("2")), "such an error does not count as absence"


def test_one_of_many_that_race_wins(redis: RedisServer) -> None:
    stores = [opened(redis) for _ in range(8)]
    for n in range(20):
        running = response(str(n), status="in_progress")
        stores[0].put(running)
        ended = [replace(running, status=f"ended {i}") for i in range(8)]
        with ThreadPoolExecutor(8) as threads:
            won = list(
                threads.map(lambda at: at[0].advance(at[1]), zip(stores, ended, strict=True))
            )
        found = stores[0].get("a", str(n))
        assert sum(won) == 1 and found is not None
        assert found.status == f"ended {won.index(True)}"


def test_a_redis_that_is_away_is_a_store_error_and_then_works_again(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "_AWAY_S", 0.0)
    store = opened(redis)
    store.put(response("1"))
    redis.stop()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"Redis at 127.0.0.1:\d+: .*refused"):
            store.put(response("2"))
    redis.start()
    assert store.get("a", "1") == response("1")
    assert store.put(response("2"))


def test_a_connection_that_ended_unnoticed_is_no_error(redis: RedisServer) -> None:
    store = opened(redis)
    store.put(response("1"))
    redis.stop()
    redis.start()
    assert store.get("a", "1") is not None


def test_calls_do_not_wait_for_a_redis_that_hangs(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "_TIMEOUT_S", 0.05)
    store = opened(redis)
    store.put(response("1"))
    redis.freeze()
    with pytest.raises(StoreError, match=r"[Tt]imeout"):
        store.get("a", "1")
    redis.thaw()
    with pytest.raises(StoreError, match=r"[Tt]imeout"):
        store.get("a", "1")  # without asking it
    monkeypatch.setattr("time.monotonic", lambda: float("inf"))
    assert store.get("a", "1") is not None


@pytest.mark.parametrize("password", ["a-wrong-password", None])
def test_a_wrong_password_is_a_store_error_that_does_not_say_it(
    redis: RedisServer, password: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = RedisStore(redis.url, password, 3600, MIB)
    with pytest.raises(StoreError, match=r"(?i)password|auth") as raised:
        store.put(response())
    assert "a-wrong-password" not in str(raised.value) + caplog.text


def test_what_a_server_repeats_of_a_request_is_not_said(redis: RedisServer) -> None:
    store = opened(redis)
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-eval", "-evalsha")
        try:
            with pytest.raises(StoreError) as raised:
                store.put(replace(response(), input=b"a secret"))
        finally:
            client.execute_command("ACL", "SETUSER", "default", "+@all")
    assert "secret" not in str(raised.value)
