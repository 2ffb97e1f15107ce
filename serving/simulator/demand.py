"""The demand that the routers of a run report, put together as in the live service."""

from collections.abc import Sequence

from serving.dispatch import Dispatcher
from serving.scaling import Observed
from serving.scaling.moments import observed_at
from serving.scaling.report import TimedReport
from serving.scaling.startup import StartupTime


class Demand:
    def __init__(self, dispatchers: Sequence[Dispatcher], startup_s: float) -> None:
        """`startup_s` is a first guess."""
        self._dispatchers = dispatchers
        self._startup = StartupTime(startup_s)
        self._timed: list[TimedReport] = []

    def observe(self, *, up: int, starting: int, now_s: float) -> Observed | None:
        """The demand since the last call; None at the first."""
        self._startup.observe(up, starting, now_s)
        timed = [TimedReport(now_s, dispatcher.report()) for dispatcher in self._dispatchers]
        before, self._timed = self._timed, timed
        if not before or before[0].at_s == now_s:
            return None
        return observed_at(
            {str(router): pair for router, pair in enumerate(zip(before, timed, strict=True))},
            before[0].at_s,
            now_s,
            up=up,
            starting=starting,
            startup_s=self._startup.seconds(now_s),
        )


def replicas_needed(observed: Observed) -> float:
    """The demand at this moment, in fully used replicas: by the offered prefill, the KV cache or
    the batch, whichever needs most."""
    kv_tokens = observed.running_kv_tokens + observed.waiting_kv_tokens
    requests = observed.running_requests + observed.waiting_requests
    return max(
        observed.offered_prefill_tokens_per_s / observed.prefill_tokens_per_s,
        kv_tokens / observed.kv_cache_tokens,
        requests / observed.max_num_seqs,
    )
