"""What every store does: its limits, who sees what, and what runs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from serving.router.responses.sqlite_store import SqliteStore
from serving.router.responses.store import NO_NEWS, News, ResponseStore, StoredResponse
from tests.router.responses.conftest import STORES
from tests.support.redis_server import RedisServer

KB = 1000
OVERHEAD = 1024
"""What a store may count beside the content of a response."""
KEEP_S = 60
MAX_BYTES = 10 * (100 * KB + OVERHEAD)
"""Ten of the usual size, so five for each of two tenants."""


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


MakeStore = Callable[[int], ResponseStore]


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> MakeStore:
    """Returns a function that opens the same store for so many tenants."""
    if request.param == "redis":
        from serving.router.responses.redis_store import RedisStore

        server: RedisServer = request.getfixturevalue("redis")
        return lambda tenants: RedisStore(
            server.url, server.password, KEEP_S, MAX_BYTES, tenants, clock
        )
    return lambda tenants: SqliteStore(tmp_path / "a" / "folder", KEEP_S, MAX_BYTES, tenants, clock)


@pytest.fixture
def store(make: MakeStore) -> ResponseStore:
    return make(2)


def response(
    response_id: str, tenant: str = "a", size: int = 100, status: str = "completed"
) -> StoredResponse:
    """Makes a response of `size` kB."""
    content = b"x" * (size * KB - 2)
    return StoredResponse(tenant, response_id, status, b"[]", content, "resp_0")


def running(response_id: str) -> StoredResponse:
    return replace(response(response_id, size=1, status="queued"), background=True, owner="x")


def ids(store: ResponseStore, tenant: str = "a") -> list[int]:
    return [n for n in range(20) if store.get(tenant, str(n)) is not None]


def test_what_is_put_is_got_until_it_is_deleted(store: ResponseStore) -> None:
    one = response("1")
    assert store.put(one)
    assert store.get("a", "1") == one
    assert store.get("b", "1") is None and not store.delete("b", "1")
    assert store.delete("a", "1") and not store.delete("a", "1")
    assert store.get("a", "1") is None


def test_everything_of_a_response_is_kept(make: MakeStore) -> None:
    one = StoredResponse("a", "resp/ 1", "queued", b"\xff\x00", b"\r\n", None, background=True)
    make(1).put(one)
    assert make(1).get("a", "resp/ 1") == one


def test_a_tenant_whose_name_begins_with_anothers_is_another(store: ResponseStore) -> None:
    store.put(response("b/1", "a"))
    for tenant in ("a.b", "a-b", "b"):
        assert store.get(tenant, "1") is None and store.get(tenant, "b/1") is None


@pytest.mark.parametrize("unknown", ["", "é", "\ud800", "x" * 5000])
def test_an_id_that_nobody_could_have_is_unknown(store: ResponseStore, unknown: str) -> None:
    assert store.get("a", unknown) is None
    assert not store.delete("a", unknown)


def test_the_oldest_of_a_tenant_go_first(store: ResponseStore, clock: Clock) -> None:
    store.put(response("1", "b"))
    for n in range(7):
        clock.now_s += 1
        store.put(response(str(n)))
    assert ids(store) == [2, 3, 4, 5, 6]
    assert ids(store, "b") == [1]
    store.put(response("7", size=450))
    assert ids(store) == [7]
    assert ids(store, "b") == [1]


def test_the_total_has_a_limit_too(make: MakeStore, clock: Clock) -> None:
    """Another configuration may have had fewer tenants, with larger shares."""
    before, after = make(1), make(2)
    for n in range(9):
        clock.now_s += 1
        before.put(response(str(n)))
    clock.now_s += 1
    after.put(response("1", "b", size=500))
    assert ids(after) == [4, 5, 6, 7, 8]


def test_what_is_too_large_is_not_kept_and_takes_nothings_place(store: ResponseStore) -> None:
    store.put(response("1"))
    assert store.largest_bytes < 506 * KB
    assert not store.put(response("2", size=506))
    assert store.put(response("3", size=400))
    assert ids(store) == [1, 3]


def test_a_response_replaces_one_with_its_id(store: ResponseStore) -> None:
    for _ in range(20):
        assert store.put(response("1", size=400))
    store.put(response("2"))
    assert ids(store) == [1, 2]


def test_what_was_deleted_makes_room(store: ResponseStore) -> None:
    for n in range(5):
        store.put(response(str(n)))
    store.delete("a", "3")
    store.put(response("5"))
    assert ids(store) == [0, 1, 2, 4, 5]


def test_a_response_expires(store: ResponseStore, clock: Clock) -> None:
    store.put(response("1"))
    clock.now_s += KEEP_S - 1
    store.put(response("2"))
    assert ids(store) == [1, 2]
    clock.now_s += 1
    assert ids(store) == [2]
    store.expire()
    clock.now_s -= 1
    assert ids(store) == [2], "it is not only hidden"


def test_hundreds_expire_at_once(store: ResponseStore, clock: Clock) -> None:
    for n in range(250):
        store.put(StoredResponse("a", str(n), "completed", b"[]", b"{}"))
    clock.now_s += KEEP_S
    store.expire()
    clock.now_s -= KEEP_S
    assert not any(store.get("a", str(n)) for n in range(250))


def test_only_what_runs_advances(store: ResponseStore, clock: Clock) -> None:
    store.put(running("1"))
    store.put(response("2"))
    keys = ("a", "2"), ("a", "1"), ("b", "1"), ("a", "3")
    assert store.report("x", dict.fromkeys(keys, NO_NEWS)) == {("a", "1")}
    assert store.report("y", dict.fromkeys(keys, NO_NEWS)) == set()
    assert not store.advance(replace(running("1"), owner="y"))
    assert store.advance(response("1", size=450, status="cancelled"))
    assert not store.advance(response("1"))
    assert not store.advance(response("3"))
    assert ids(store) == [1], "it has grown, and the other had to go"
    assert store.report("x", {("a", "1"): NO_NEWS}) == set()
    assert store.report("x", {}) == set()


def test_events_are_kept_once_and_in_order(store: ResponseStore) -> None:
    store.put(running("1"), b"request", [b"0", b"1"])
    key = ("a", "1")
    assert store.events("a", "1", 0) == ("queued", [b"0", b"1"])
    assert store.report("x", {key: News(2, [b"2", b"3"])}) == {key}
    assert store.report("x", {key: News(2, [b"2", b"3", b"4"])}) == {key}, "sent again"
    assert store.report("x", {key: News(9, [b"9"])}) == set(), "some before it are lost"
    assert store.report("y", {key: News(5, [b"y"])}) == set()
    assert store.events("a", "1", 3) == ("queued", [b"3", b"4"])
    assert store.advance(replace(running("1"), status="completed"), News(4, [b"4", b"5"]))
    assert store.events("a", "1", 4) == ("completed", [b"4", b"5"])
    assert store.events("a", "1", 6) == ("completed", [])
    assert store.events("b", "1", 0) is None and store.events("a", "\ud800", 0) is None
    assert store.delete("a", "1") and store.events("a", "1", 0) is None
    store.put(running("1"))
    assert store.events("a", "1", 0) == ("queued", [])


def test_events_count_as_long_as_they_are_kept(store: ResponseStore, clock: Clock) -> None:
    store.put(response("0"))
    clock.now_s += 1
    store.put(running("1"))
    assert store.report("x", {("a", "1"): News(0, [b"x" * 1000] * 350)})
    assert ids(store) == [0, 1]
    assert store.report("x", {("a", "1"): News(350, [b"x" * 1000] * 60)})
    assert ids(store) == [1]
    assert store.advance(replace(running("1"), status="completed"))
    clock.now_s += 1
    store.put(response("2"))
    assert ids(store) == [2]


def test_what_nobody_reports_is_claimed_once(make: MakeStore, clock: Clock) -> None:
    store, other = make(1), make(1)
    store.put(running("1"), b"request", [b"0"])
    store.put(response("2"))
    clock.now_s += 5
    store.report("x", {("a", "1"): NO_NEWS})
    clock.now_s += 4
    assert other.claim("y", 5) is None
    clock.now_s += 1
    assert store.claim("x", 5) is None, "its own"
    claim = other.claim("y", 5)
    assert claim is not None
    assert claim.stored == replace(running("1"), owner="y")
    assert (claim.request, claim.events, claim.claims) == (b"request", [b"0"], 1)
    assert store.claim("z", 5) is None
    assert store.report("x", {("a", "1"): News(1, [b"1"])}) == set()
    assert not store.advance(replace(running("1"), status="completed"))
    clock.now_s += 5
    again = store.claim("x", 5)
    assert again is not None and again.claims == 2
    assert store.advance(replace(running("1"), status="completed"))
    clock.now_s += 5
    assert other.claim("y", 5) is None


def test_it_opens_again_after_it_was_closed(store: ResponseStore) -> None:
    store.put(response("1"))
    store.close()
    assert ids(store) == [1]
