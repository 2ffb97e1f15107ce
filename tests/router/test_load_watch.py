"""A router that is short has its kept connections move to the others."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serving.router.load_watch import LoadWatch
from serving.scaling import RouterLoad
from serving.scaling.autoscaler import PERIOD_S
from serving.scaling.router_load import CHUNKS_PER_S, MAX_CONNECTIONS


@dataclass
class Server:
    connections: int = 0
    moved: int = 0

    def move_connections(self) -> None:
        self.moved += 1


class Setting:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # As where many files may be open.
        monkeypatch.setattr("resource.getrlimit", lambda _: (1 << 20, 1 << 20))
        self.now_s = self.busy_s = 0.0
        self.others = 1
        self.server = Server()
        self.metrics: Any = SimpleNamespace(
            event_loop=SimpleNamespace(busy_s=lambda: self.busy_s), chunks=0, load=RouterLoad()
        )
        metrics, server = cast(Any, self.metrics), cast(Any, self.server)
        self.watch = LoadWatch(metrics, server, lambda: self.others, lambda: self.now_s)

    def pass_by(self, share: float) -> int:
        """Lets a period pass, with this share of the loop used. Returns how often connections were
        moved until now."""
        self.now_s += PERIOD_S
        self.busy_s += share * PERIOD_S
        self.watch.look()
        return self.server.moved


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    return Setting(monkeypatch)


def test_it_measures_each_period(setting: Setting) -> None:
    setting.metrics.chunks += CHUNKS_PER_S * PERIOD_S / 4
    setting.server.connections = MAX_CONNECTIONS // 2
    setting.pass_by(0.125)
    assert setting.metrics.load == RouterLoad(0.125, 0.25, 0.5)


def test_connections_move_while_it_is_short_but_seldom(setting: Setting) -> None:
    assert setting.pass_by(0.5) == 0
    moved = [setting.pass_by(0.9) for _ in range(20)]
    assert (moved[0], moved[10], moved[-1]) == (1, 1, 2)


def test_they_move_at_once_to_a_router_that_was_added(setting: Setting) -> None:
    assert setting.pass_by(0.9) == 1
    assert setting.pass_by(0.9) == 1
    setting.others = 2
    assert setting.pass_by(0.9) == 2
    setting.others = 1
    assert setting.pass_by(0.9) == 2
    setting.others = 2
    assert setting.pass_by(0.9) == 3


def test_a_router_alone_keeps_its_connections(setting: Setting) -> None:
    setting.others = 0
    assert [setting.pass_by(1.0) for _ in range(40)] == [0] * 40
