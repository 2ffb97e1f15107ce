"""What a router uses of what one can carry."""

import pytest

from serving.scaling.autoscaler import Series
from serving.scaling.router_load import (
    CHUNKS_PER_S,
    MAX_CONNECTIONS,
    SHORT,
    RouterCounters,
    RouterLoad,
    load_between,
    read_loads,
)

BEFORE = RouterCounters(at_s=100, busy_s=7, chunks=1000)
NOW_S = 1000.0


def test_a_load_is_what_was_used_between_two_times() -> None:
    now = RouterCounters(at_s=102, busy_s=8.5, chunks=1000 + CHUNKS_PER_S // 2)
    load = load_between(BEFORE, now, MAX_CONNECTIONS // 4, max_connections=1 << 20)
    assert load == RouterLoad(event_loop=0.75, chunks=0.25, connections=0.25)


def test_fewer_connections_are_carried_where_fewer_files_may_be_open() -> None:
    now = RouterCounters(at_s=102, busy_s=7, chunks=1000)
    assert load_between(BEFORE, now, 256, max_connections=512).connections == 0.5


@pytest.mark.parametrize("resource", ["event_loop", "chunks", "connections"])
def test_a_router_is_short_if_it_is_of_one_thing(resource: str) -> None:
    assert RouterLoad(**{resource: SHORT + 0.01}).is_short
    assert not RouterLoad(**{resource: SHORT}).is_short


def reported(loads: dict[str, RouterLoad], at_s: float = NOW_S) -> Series:
    """Series as they come from the routers, each with an older report too."""
    names = RouterLoad().named()
    return {
        name: {
            router: [(at_s - 2, 0.9), (at_s, load.named()[name])] for router, load in loads.items()
        }
        for name in names
    }


def test_the_newest_report_of_each_router_counts() -> None:
    loads = {"a": RouterLoad(0.1, 0.2, 0.3), "b": RouterLoad(0.4, 0.5, 0.6)}
    assert read_loads(reported(loads), NOW_S + 2) == list(loads.values())


def test_old_and_incomplete_reports_do_not_count() -> None:
    series = dict(reported({"a": RouterLoad(0.1, 0.2, 0.3), "b": RouterLoad(0.4, 0.5, 0.6)}))
    series = series | {"router/chunks": {"b": series["router/chunks"]["b"]}}
    assert read_loads(series, NOW_S) == [RouterLoad(0.4, 0.5, 0.6)]
    assert read_loads(series, NOW_S + 60) == read_loads({}, NOW_S) == []
