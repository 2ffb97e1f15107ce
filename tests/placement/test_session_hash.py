import pytest

from serving.placement import ReplicaLoad, SessionHash
from tests.placement.works import work

REPLICAS = [ReplicaLoad(f"replica-{i}") for i in range(5)]
SESSIONS = [f"session-{i}" for i in range(500)]


def placed(session: str | None, loads: list[ReplicaLoad]) -> ReplicaLoad:
    asked = work(1, session=session)
    return loads[SessionHash().choose(asked, loads, [0] * len(loads), 0.0)]


def test_sessions_stay_and_spread() -> None:
    first = [placed(session, REPLICAS) for session in SESSIONS]
    assert [placed(session, REPLICAS[::-1]) for session in SESSIONS] == first
    counts = [first.count(load) for load in REPLICAS]
    assert min(counts) > 60


def test_only_the_sessions_of_a_replica_that_goes_move() -> None:
    for session in SESSIONS:
        before = placed(session, REPLICAS)
        if before is not REPLICAS[2]:
            assert placed(session, [*REPLICAS[:2], *REPLICAS[3:]]) is before


def test_without_a_session_the_fewest_tokens_win() -> None:
    busy, idle = ReplicaLoad("busy"), ReplicaLoad("idle")
    busy.book(work(1), 0, now_s=0.0)
    assert placed(None, [busy, idle]) is idle
    assert placed("", [busy, idle]) is idle
    with pytest.raises(ValueError):
        placed("session", [])
