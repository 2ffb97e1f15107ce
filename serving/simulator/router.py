"""A router of the simulation: its own ledger, its own index, a policy."""

from collections.abc import Callable

from serving.placement.load import Booking, ReplicaLoad
from serving.placement.policy import Policy
from serving.placement.prefix_index import PrefixIndex
from serving.placement.rates import Rates
from serving.placement.work import Work
from serving.simulator.engine import EngineSpec
from serving.simulator.request import Outcome, Request


class Router:
    """What it decides and what it is told of other routers' decisions go through the same `book`,
    `first_token` and `end`, in which a request is named by a number of the caller.

    It knows no request's answer beforehand: all are expected to have `output_tokens`.
    """

    def __init__(
        self, policy: Policy, output_tokens: int, new_rates: Callable[[], Rates] = Rates
    ) -> None:
        self.policy = policy
        self.index = PrefixIndex()
        self.loads: list[ReplicaLoad] = []
        self._output_tokens = output_tokens
        self._new_rates = new_rates
        self._slots: list[int] = []
        self._bookings: dict[int, Booking] = {}

    def add_replica(self, spec: EngineSpec) -> None:
        replica_id = f"replica-{len(self.loads)}"
        self.loads.append(
            ReplicaLoad(replica_id, spec.kv_cache_tokens, spec.max_num_seqs, self._new_rates())
        )
        self._slots.append(self.index.add_replica(spec.kv_cache_tokens))

    def choose(self, request: Request, now_s: float) -> tuple[int, int]:
        """A replica, and the tokens that it is thought to have cached. Books nothing."""
        by_slot = self.index.cached_tokens(request.prefix)
        cached_tokens = [by_slot[slot] for slot in self._slots]
        replica = self.policy.choose(self._work(request), self.loads, cached_tokens, now_s)
        return replica, cached_tokens[replica]

    def book(
        self, number: int, request: Request, replica: int, cached_tokens: int, now_s: float
    ) -> None:
        work = self._work(request)
        self._bookings[number] = self.loads[replica].book(work, cached_tokens, now_s)
        self.index.touch(self._slots[replica], request.prefix)

    def first_token(self, number: int, now_s: float) -> None:
        self._bookings[number].first_token(now_s)

    def end(self, number: int, outcome: Outcome, now_s: float) -> None:
        """Releases what is left; the answer is a prefix now."""
        request = outcome.request
        self._bookings.pop(number).end(now_s, request.output_tokens)
        if request.session is not None:
            self.index.touch(self._slots[outcome.replica], request.prefix, request.output_tokens)

    def _work(self, request: Request) -> Work:
        return Work(request.prefix, request.prompt_tokens, self._output_tokens, request.session)
