"""Decides when to stop waiting: the service is up, or will not come up by itself."""

from serving.deploy.snapshot import Snapshot
from serving.deploy.stages import Stage, stages

_FAILED_FOR_S = 30
"""How long a failed stage may take to recover."""


class Progress:
    """Follows all stages, or those named `of`. Times are of any monotonic clock."""

    def __init__(self, now_s: float, timeout_s: float, of: frozenset[str] | None = None) -> None:
        self._deadline_s = now_s + timeout_s
        self._timeout_s = timeout_s
        self._of = of
        self._since_s: dict[str, float] = {}
        self.stages: list[Stage] = []

    @property
    def done(self) -> bool:
        return bool(self.stages) and all(
            stage.done or (stage.spare and self._of is None) for stage in self.stages
        )

    def see(self, snapshot: Snapshot, now_s: float, there: bool = True) -> str:
        """The reason to give up; "" to go on, or at the goal if `there` is true too."""
        found = stages(snapshot)
        self.stages = [each for each in found if self._of is None or each.name in self._of]
        if self.done and there:
            return ""
        hopeless: dict[str, tuple[str, float]] = {}
        for stage in self.stages:
            if stage.failed:
                why = "; ".join([stage.text, *(each.why for each in stage.waits)])
                hopeless[f"{stage.name}:"] = (why, _FAILED_FOR_S)
            for each in stage.waits:
                if each.patience_s is not None:
                    hopeless[each.pod] = (each.why, each.patience_s)
        self._since_s = {what: self._since_s.get(what, now_s) for what in hopeless}
        for what, (why, patience_s) in hopeless.items():
            if now_s - self._since_s[what] >= patience_s:
                return f"{what} {why}"
        if now_s >= self._deadline_s:
            late = [f"{stage.name}: {stage.text}" for stage in self.stages if not stage.done]
            waited = f"{self._timeout_s / 60:.0f} minutes"
            return f"not up after {waited}; " + (", ".join(late) or "no new cluster serves")
        return ""

    def blocks(self) -> dict[str, list[str]]:
        """The lines of each stage, with what its pods wait for and what helps."""
        return {stage.name: stage.lines() for stage in self.stages}
