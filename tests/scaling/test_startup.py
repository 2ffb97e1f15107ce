from serving.scaling.startup import StartupTime


def test_a_guess_until_one_was_up() -> None:
    startup = StartupTime(120)
    startup.observe(up=1, starting=0, now_s=0)
    assert startup.seconds(0) == 120


def test_from_the_decision_until_it_is_up() -> None:
    startup = StartupTime(120)
    startup.observe(up=1, starting=0, now_s=0)
    startup.observe(up=1, starting=1, now_s=10)
    startup.observe(up=1, starting=1, now_s=50)
    startup.observe(up=2, starting=0, now_s=80)
    assert startup.seconds(80) == 70


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


def test_several_at_once_are_each_measured() -> None:
    startup = StartupTime(1)
    startup.observe(up=0, starting=0, now_s=0)
    startup.observe(up=0, starting=2, now_s=10)
    startup.observe(up=0, starting=3, now_s=20)
    startup.observe(up=2, starting=1, now_s=40)
    startup.observe(up=3, starting=0, now_s=45)
    assert startup.seconds(45) == 30


def test_one_that_is_late_takes_at_least_what_it_took_so_far() -> None:
    startup = StartupTime(60)
    startup.observe(up=1, starting=0, now_s=0)
    startup.observe(up=1, starting=1, now_s=0)
    assert startup.seconds(30) == 60
    assert startup.seconds(300) == 300


def test_one_that_was_called_off_says_nothing() -> None:
    startup = StartupTime(60)
    startup.observe(up=1, starting=0, now_s=0)
    startup.observe(up=1, starting=1, now_s=0)
    startup.observe(up=1, starting=0, now_s=500)
    assert startup.seconds(500) == 60


def test_those_that_were_starting_before_say_nothing() -> None:
    startup = StartupTime(60)
    startup.observe(up=1, starting=1, now_s=0)
    assert startup.seconds(500) == 60
    startup.observe(up=2, starting=0, now_s=500)
    assert startup.seconds(500) == 60
