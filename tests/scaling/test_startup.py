import pytest

from serving.scaling.startup import StartupTime

Observed = list[tuple[int, int, float]]
"""The replicas that are up, those that are starting, and the time in seconds."""


@pytest.mark.parametrize(
    ("guess_s", "observed", "expected_s"),
    [
        pytest.param(120, [(1, 0, 0)], 120, id="a guess until one was up"),
        pytest.param(
            120,
            [(1, 0, 0), (1, 1, 10), (1, 1, 50), (2, 0, 80)],
            70,
            id="from the decision until it is up",
        ),
        pytest.param(
            1,
            [(0, 0, 0), (0, 2, 10), (0, 3, 20), (2, 1, 40), (3, 0, 45)],
            30,
            id="several at once are each measured",
        ),
        pytest.param(60, [(1, 0, 0), (1, 1, 0), (1, 0, 500)], 60, id="one that was called off"),
        pytest.param(60, [(1, 1, 0)], 60, id="one that was starting before"),
        pytest.param(60, [(1, 1, 0), (2, 0, 500)], 60, id="one that was starting before is up"),
    ],
)
def test_the_time_that_a_start_takes(guess_s: float, observed: Observed, expected_s: float) -> None:
    startup = StartupTime(guess_s)
    for up, starting, now_s in observed:
        startup.observe(up=up, starting=starting, now_s=now_s)
    assert startup.seconds(observed[-1][2]) == expected_s


def test_the_slowest_of_the_last_few_counts() -> None:
    startup = StartupTime(120)
    startup.observe(up=0, starting=0, now_s=0)
    now_s = 0.0
    for took_s, expected_s in [(90, 90), (30, 90), (40, 90), (20, 40)]:
        startup.observe(up=0, starting=1, now_s=now_s)
        startup.observe(up=1, starting=0, now_s=now_s + took_s)
        assert startup.seconds(now_s + took_s) == expected_s
        startup.observe(up=0, starting=0, now_s=now_s + took_s)
        now_s += 1000


def test_one_that_is_late_takes_at_least_what_it_took_so_far() -> None:
    startup = StartupTime(60)
    startup.observe(up=1, starting=0, now_s=0)
    startup.observe(up=1, starting=1, now_s=0)
    assert startup.seconds(30) == 60
    assert startup.seconds(300) == 300
