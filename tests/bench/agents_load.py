"""Generates the load of agents: tasks of many turns over one growing context, with tools between
the turns."""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from serving.placement.prefix import Prefix
from serving.simulator.request import Request
from serving.simulator.workload import Arrival, PromptMaker, answered, around


@dataclass(frozen=True, slots=True)
class AgentsLoad:
    """Agents that begin their next task when one is done.

    The defaults are a coding agent's as public reports have it. Turns, growth and answers: a
    hundred prompt tokens for each answered one, a few dozen turns (llm-d/llm-d-router#2964,
    arXiv:2602.13692). Tools: a log-normal distribution by which 86.46 % of them are done within a
    second and 95.12 % within ten (vllm-project/router#285).
    """

    kinds: int = 4
    """Kinds of agents, each with a system prompt and tools of its own."""
    system_tokens: int = 8000
    """System prompt and tools of a kind, which all its tasks share."""
    task_tokens: int = 1500
    """Mean length of a task's description."""
    turns: float = 24.0
    """Mean number of turns of a task; geometric."""
    result_tokens: int = 900
    """Mean length of a tool's result; exponential, as is the answer's."""
    output_tokens: int = 300
    tool_log_mean: float = -4.55
    """Parameters of the logarithm of a tool's time in seconds."""
    tool_log_sd: float = 4.13
    longest_tool_s: float = 600.0
    pause_s: float = 2.0
    """From the end of a task to the beginning of the agent's next one."""
    context_tokens: int = 128_000
    """A task that has grown so long is over."""

    def agents(self, count: int, tasks: int, *, seed: int = 0) -> list[Arrival]:
        """The first turns of `count` agents that each do `tasks` tasks. They begin within a minute;
        a session is a task's, named `agent/task`."""
        rng = random.Random(seed)
        maker = PromptMaker()
        systems = [maker.extend(None, self.system_tokens) for _ in range(self.kinds)]

        def task(agent: int, number: int) -> Iterator[Request]:
            return self._task(maker, rng, systems[agent % self.kinds], f"{agent}/{number}")

        return one_after_another(count, tasks, task, rng)

    def _task(
        self, maker: PromptMaker, rng: random.Random, prefix: Prefix, session: str
    ) -> Iterator[Request]:
        added_tokens = self.task_tokens
        while True:
            prompt = maker.extend(prefix, around(added_tokens, rng))
            turn = Request(prompt, around(self.output_tokens, rng), maker.fresh(), session)
            prefix = answered(turn)
            added_tokens = self.result_tokens
            is_last = rng.random() < 1 / self.turns or prefix.tokens > self.context_tokens
            if is_last:
                yield replace(turn, think_s=self.pause_s)
                return
            tool_s = rng.lognormvariate(self.tool_log_mean, self.tool_log_sd)
            yield replace(turn, think_s=min(tool_s, self.longest_tool_s))


def one_after_another(
    count: int,
    tasks: int,
    task: Callable[[int, int], Iterable[Request]],
    rng: random.Random,
) -> list[Arrival]:
    """The first turns of `count` agents, each of which begins within a minute and sends the turns
    of `task(agent, number)` for `tasks` numbers, one turn after the answer to the one before."""
    firsts = []
    for agent in range(count):
        turns = [turn for number in range(tasks) for turn in task(agent, number)]
        first = turns.pop()
        while turns:
            first = replace(turns.pop(), next_turn=first)
        firsts.append(Arrival(rng.uniform(0, 60), first))
    return sorted(firsts, key=lambda arrival: arrival.at_s)


def turns(request: Request | None) -> Iterator[Request]:
    """Yields the turns of a task from this one on."""
    while request is not None:
        yield request
        request = request.next_turn
