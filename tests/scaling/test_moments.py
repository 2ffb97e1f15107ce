from collections.abc import Mapping, Sequence

from serving.scaling import Observed
from serving.scaling.moments import Moments, observed_at
from serving.scaling.report import TimedReport
from tests.scaling.reports import timed


def observed(timed: Mapping[str, Sequence[TimedReport]], before_s: float, now_s: float) -> Observed:
    return observed_at(timed, before_s, now_s, up=1, starting=0, startup_s=60)


# When


def test_each_period_passes_once() -> None:
    moments = Moments(2)
    router = [timed(10.0)]
    assert list(moments.pass_by({"a": router})) == []
    router += [timed(12.1), timed(14.0)]
    assert list(moments.pass_by({"a": router})) == [(10, 12), (12, 14)]
    assert list(moments.pass_by({"a": router})) == []


def test_the_newest_that_is_known_counts() -> None:
    router = [timed(10.0), timed(12.0), timed(13.9)]
    assert list(Moments(2).pass_by({"a": router})) == [(10, 13.9)]


def test_nothing_passes_without_a_report() -> None:
    assert list(Moments(2).pass_by({})) == []


def test_the_first_time_all_that_is_remembered_passes() -> None:
    remembered = [timed(float(second)) for second in range(100, 161, 2)]
    assert len(list(Moments(2).pass_by({"a": remembered}))) == 30


def test_a_router_that_is_late_is_waited_for() -> None:
    moments = Moments(2)
    late, other = [timed(10.0)], [timed(10.0), timed(14.0)]
    assert list(moments.pass_by({"late": late, "other": other})) == []
    late.append(timed(12.0))
    assert list(moments.pass_by({"late": late, "other": other})) == [(10, 12)]


def test_one_that_is_silent_is_not() -> None:
    silent, other = [timed(10.0)], [timed(10.0), timed(30.0)]
    assert len(list(Moments(2).pass_by({"silent": silent, "other": other}))) == 10


def test_what_nobody_remembers_is_left_out() -> None:
    moments = Moments(2)
    list(moments.pass_by({"a": [timed(10.0), timed(12.0)]}))
    assert list(moments.pass_by({"a": [timed(100.0), timed(102.0)]})) == [(100, 102)]


# What


def test_what_came_is_of_all_routers() -> None:
    routers = {
        "a": [timed(10, offered_prefill_tokens=500), timed(12, offered_prefill_tokens=900)],
        "b": [timed(10), timed(12)],
    }
    assert observed(routers, 10, 12).offered_prefill_tokens_per_s == 200


def test_between_two_reports_it_comes_evenly() -> None:
    router = [timed(10, offered_prefill_tokens=0), timed(14, offered_prefill_tokens=400)]
    assert observed({"a": router}, 11, 13).offered_prefill_tokens_per_s == 100
    assert observed({"a": router}, 13, 15).offered_prefill_tokens_per_s == 50


def test_what_a_router_counted_before_it_was_heard_is_no_rate() -> None:
    old = [timed(8, offered_prefill_tokens=0), timed(12, offered_prefill_tokens=0)]
    new = [timed(11, offered_prefill_tokens=9_000), timed(12, offered_prefill_tokens=9_200)]
    assert observed({"old": old, "new": new}, 10, 12).offered_prefill_tokens_per_s == 100


def test_each_waits_at_its_router_and_runs_for_all() -> None:
    routers = {
        "a": [timed(10, waiting_requests=2, waiting_kv_tokens=20, running_requests=7)],
        "b": [timed(10, waiting_requests=3, waiting_prefill_tokens=9, running_requests=8)],
    }
    seen = observed(routers, 8, 10)
    assert (seen.waiting_requests, seen.waiting_kv_tokens) == (5, 20)
    assert seen.waiting_prefill_tokens == 9
    assert seen.running_requests == 8


def test_it_is_as_it_was_then() -> None:
    router = [timed(10, draining=1, residence_time_s=5), timed(12, draining=0, residence_time_s=7)]
    assert observed({"a": router}, 8, 11).draining == 1
    assert observed({"a": router}, 10, 12).draining == 0
    assert observed({"a": router}, 10, 12).residence_time_s == 7
    assert observed({"a": router}, 2, 4).residence_time_s == 5


def test_replicas_are_as_given() -> None:
    seen = observed_at({"a": [timed(10)]}, 8, 10, up=3, starting=2, startup_s=77)
    assert (seen.up, seen.starting, seen.startup_s) == (3, 2, 77)
