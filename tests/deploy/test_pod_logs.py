"""serving/deploy/pod_logs.py: logs that go on after a lost connection."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from serving.deploy import pod_logs
from serving.deploy.errors import Unreachable
from serving.deploy.kube import Kube
from serving.deploy.pod_logs import container_lines

POD = {"metadata": {"name": "redis-0", "namespace": "n"}}


class Lossy:
    """Each call gives its lines; all but the last break off then."""

    def __init__(self, *calls: list[str]) -> None:
        self.calls = list(calls)
        self.asked: list[dict[str, Any]] = []

    def log(self, pod: object, container: str, tail: int | None, **how: Any) -> Iterator[str]:
        self.asked.append({"tail": tail, **how})
        yield from self.calls.pop(0)
        if self.calls:
            raise Unreachable("lost")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_logs, "TRY_AGAIN_S", 0)


def shown(kube: Lossy, follow: bool) -> Iterator[str]:
    return container_lines(cast(Kube, kube), POD, "redis", 5, follow, previous=False)


def test_what_is_followed_goes_on_from_the_moment_of_the_loss() -> None:
    kube = Lossy(["one"], [], ["two"])
    assert list(shown(kube, follow=True)) == ["one", "two"]
    assert [each["tail"] for each in kube.asked] == [5, None, None]
    assert all(each["since_s"] >= 1 for each in kube.asked[1:])


def test_what_is_not_followed_ends_with_the_loss() -> None:
    with pytest.raises(Unreachable):
        list(shown(Lossy(["one"], ["two"]), follow=False))


def test_a_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_logs, "_TRIES", 3)
    with pytest.raises(Unreachable):
        list(shown(Lossy(*[[]] * 10), follow=True))
