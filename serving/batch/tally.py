"""Counts the progress of a run."""

from dataclasses import dataclass, field

_FAILURES_KEPT = 10


@dataclass
class Tally:
    """Counts of lines, and of output tokens in this run's answers. Times are of `monotonic`."""

    total: int
    answered_before: int = 0
    failed_before: int = 0
    started_s: float = 0.0
    answered: int = 0
    failed: int = 0
    tokens: int = 0
    waiting: int = 0
    """Number of lines that wait for their next try."""
    trouble: str = ""
    """The reason of the last failed try."""
    last_response_s: float | None = None
    """When the service last gave a sign of life: an answer, a rejection or a line's error."""
    failures: list[str] = field(default_factory=list)
    """The first failures of this run, to print."""

    @property
    def done(self) -> int:
        return self.all_answered + self.all_failed

    @property
    def all_answered(self) -> int:
        return self.answered_before + self.answered

    @property
    def all_failed(self) -> int:
        return self.failed_before + self.failed

    def count_answer(self, tokens: int) -> None:
        self.answered += 1
        self.tokens += tokens

    def count_failure(self, custom_id: str, message: str) -> None:
        self.failed += 1
        if len(self.failures) < _FAILURES_KEPT:
            self.failures.append(f"{custom_id}: {message}")

    def report(self, now_s: float) -> str:
        """The progress in one line: done, speed, time left, and what the run waits for."""
        elapsed_s = max(now_s - self.started_s, 1e-9)
        lines_per_s = (self.answered + self.failed) / elapsed_s
        parts = [f"{self.done:,} of {self.total:,} lines", f"{self.all_failed:,} failed"]
        if lines_per_s and self.done < self.total:
            parts.append(f"{duration((self.total - self.done) / lines_per_s)} left")
        parts += [f"{lines_per_s:,.1f} lines/s", f"{self.tokens / elapsed_s:,.0f} tokens/s"]
        if self.waiting:
            parts.append(f"{self.waiting} to try again ({self.trouble[:80]})")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """A duration to print: 45 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
