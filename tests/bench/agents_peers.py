"""Program-aware admission as published, in front of the simulated routers.

It knows each session by an id that its client sends, and when a task is over. (ThunderAgent,
arXiv:2602.13692, and its port to Dynamo, whose defaults these are:
docs.nvidia.com/dynamo/dev/components/thunder-agent-scheduler)
"""

import math
from dataclasses import dataclass

from serving.dispatch.working_set import LONGEST_PAUSE_S
from serving.simulator.replicas import Replica
from serving.simulator.request import Outcome, Request
from serving.simulator.simulation import Simulation

_PAUSE_ABOVE, _PAUSE_TO, _RESUME_BELOW = 0.95, 0.80, 0.85
_PERIOD_S = 5.0


@dataclass(eq=False)
class _Program:
    tokens: int = 0
    replica: int | None = None
    """None: it is paused."""
    is_running: bool = False


class ProgramAware(Simulation):
    """Every five seconds programs that wait for their tools are paused, the smallest first, where
    the contexts of all exceed 95 % of a replica's cache, down to 80 %; and paused and new ones, the
    smallest first, may go on where there is room below 85 %."""

    _period_s = _PERIOD_S
    _pause_above, _pause_to, _resume_below = _PAUSE_ABOVE, _PAUSE_TO, _RESUME_BELOW
    _longest_wait_s = math.inf
    _next_tick_s = -math.inf

    def _send(self, request: Request, now_s: float, sent_s: float | None = None) -> None:
        if now_s > self._until_s:
            super()._send(request, now_s, sent_s)
            return
        programs, waiting = self._state()
        program = programs.setdefault(request.session or "", _Program())
        program.tokens = request.prompt_tokens + request.output_tokens
        if program.replica is None:
            waiting.append((request, now_s))
            self._tick(now_s)
        else:
            program.is_running = True
            super()._send(request, now_s, sent_s)

    def _end(self, outcome: Outcome, replica: Replica, now_s: float) -> int:
        programs, _ = self._state()
        request = outcome.request
        program = programs[request.session or ""]
        program.is_running, program.replica = False, replica.number
        following = request.next_turn
        if following is None or following.session != request.session:
            del programs[request.session or ""]
        router = super()._end(outcome, replica, now_s)
        self._tick(now_s)
        return router

    def _state(self) -> tuple[dict[str, _Program], list[tuple[Request, float]]]:
        state = self.__dict__
        return state.setdefault("programs", {}), state.setdefault("held", [])

    def _tick(self, now_s: float) -> None:
        programs, waiting = self._state()
        if now_s > self._until_s:  # the last requests are not sent any more
            self._to_come -= len(waiting)
            waiting.clear()
        if now_s < self._next_tick_s:
            return
        capacity = self._capacity.kv_cache_tokens
        used = [0] * len(self._replicas.all)
        for program in programs.values():
            if program.replica is not None:
                used[program.replica] += program.tokens
        for number, tokens in enumerate(used):
            if tokens > self._pause_above * capacity:
                idle = [
                    one for one in programs.values() if one.replica == number and not one.is_running
                ]
                for program in sorted(idle, key=lambda one: one.tokens):
                    if used[number] <= self._pause_to * capacity:
                        break
                    used[number] -= program.tokens
                    program.replica = None
        for request, sent_s in sorted(waiting, key=lambda one: one[0].prompt_tokens):
            program = programs[request.session or ""]
            freest = min(range(len(used)), key=used.__getitem__)
            has_room = used[freest] + program.tokens <= self._resume_below * capacity
            if has_room or now_s - sent_s >= self._longest_wait_s:
                used[freest] += program.tokens
                program.replica, program.is_running = freest, True
                waiting.remove((request, sent_s))
                super()._send(request, now_s, sent_s)
        self._next_tick_s = now_s + self._period_s
        if waiting and self._period_s:
            self._at(self._next_tick_s, self._tick)


class ProgramAwareAtOnce(ProgramAware):
    """Program-aware admission without a period and margins: it looks at each event, and takes
    programs up to the cache's size, which is what the idea can give."""

    _period_s = 0.0
    _pause_above = _pause_to = _resume_below = 1.0


class BoundedProgramAware(ProgramAware):
    """Program-aware admission whose programs wait no longer than ours, room or none."""

    _longest_wait_s = LONGEST_PAUSE_S
