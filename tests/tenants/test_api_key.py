"""API keys: how they are made and rotated, and what they allow."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from serving.tenants import Tenant
from serving.tenants.api_key import callers, digest, duration, new_key, rotated
from tests.support.keys import CREATED, key_record

HOUR = timedelta(hours=1)


def test_a_new_key_is_found_by_its_hash_and_names_its_id() -> None:
    wanted = key_record("any", "a", models=("small",))
    key, kept = new_key(wanted, ())
    assert key.startswith(f"sk-{kept.id}-") and len(key) == len("sk-12345678-") + 43
    assert (kept.tenant, kept.models, kept.created) == ("a", ("small",), CREATED)
    known, unknown = callers([kept], {"a": Tenant(name="a")})
    assert known[digest(key.encode())].key_id == kept.id
    assert not unknown
    assert new_key(wanted, ())[0] != key


def test_an_id_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter(("00000001", "00000002"))
    monkeypatch.setattr("serving.tenants.api_key.secrets.token_hex", lambda _: next(ids))
    assert new_key(key_record("any", "a"), {"00000001"})[1].id == "00000002"


@pytest.mark.parametrize(
    ("lasts", "old_ends", "new_ends"),
    [
        (None, HOUR, None),
        (30 * 24 * HOUR, HOUR, 30 * 24 * HOUR),
        (10.5 * HOUR, HOUR / 2, 10.5 * HOUR),  # the old one would end within the grace period
    ],
)
def test_a_rotated_key_ends_soon_and_its_successor_lasts_as_long_as_it_was_to(
    lasts: timedelta | None, old_ends: timedelta, new_ends: timedelta | None
) -> None:
    now = CREATED + 10 * HOUR
    expires = None if lasts is None else CREATED + lasts
    old = key_record("sk-1", "a", expires=expires, endpoints=("/v1/models",), max_priority=2)
    ending, successor = rotated(old, now, HOUR)
    assert ending.expires == now + old_ends
    assert successor.created == now
    assert successor.expires == (None if new_ends is None else now + new_ends)
    assert (successor.endpoints, successor.max_priority) == (("/v1/models",), 2)


@pytest.mark.parametrize(("of_key", "is_at_most"), [(None, 5), (3, 3), (9, 5)])
def test_the_priority_is_the_lower_one_of_tenant_and_key(
    of_key: int | None, is_at_most: int
) -> None:
    caller = key_record("sk-1", "a", max_priority=of_key).caller(Tenant(name="a", max_priority=5))
    assert caller.max_priority == is_at_most


def test_a_key_without_limits_may_all_for_ever() -> None:
    caller = key_record("sk-1", "a").caller(Tenant(name="a"))
    assert caller.may_use(("any",)) and caller.may_ask("/any")
    assert caller.expires_s == math.inf


def test_a_key_is_for_its_models_and_paths() -> None:
    expires = datetime(2026, 6, 1, tzinfo=UTC)
    key = key_record("sk-1", "a", models=("m",), endpoints=("/v1/messages",), expires=expires)
    caller = key.caller(Tenant(name="a"))
    assert caller.expires_s == expires.timestamp()
    assert caller.may_use(("id", "m")) and not caller.may_use(("id",))
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        assert caller.may_ask(path)
    for path in ("/v1", "/v1/messages2", "/v1/chat/completions"):
        assert not caller.may_ask(path)


def test_keys_of_tenants_that_are_not_configured_are_apart() -> None:
    known, unknown = callers(
        [key_record("sk-1", "a"), key_record("sk-2", "b")], {"a": Tenant(name="a")}
    )
    assert list(known) == [digest(b"sk-1")]
    assert unknown == {digest(b"sk-2"): "b"}


def test_durations() -> None:
    assert [duration(text) for text in ("30m", "12h", "90d")] == [HOUR / 2, 12 * HOUR, 2160 * HOUR]
    for text in ("", "1", "0d", "-1d", "1w", "1.5h", "9999999d"):
        with pytest.raises(ValueError, match="30m, 12h or 90d"):
            duration(text)
