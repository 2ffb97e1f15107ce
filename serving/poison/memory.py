"""Remembers the requests that end engines, for a while."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from serving.poison.reason import Reason


@dataclass(frozen=True, slots=True)
class Guilty:
    """A request that ended an engine, alone or twice."""

    digest: bytes
    shape: int
    reason: Reason
    build: str
    """The build of the engines that it ends."""
    since_s: float
    expires_s: float


class Memory:
    """The guilty requests of a model, oldest first."""

    def __init__(self, most: int) -> None:
        """`most` bounds how many are remembered; the oldest go first."""
        self._most = most
        self._guilty: dict[bytes, Guilty] = {}

    def __iter__(self) -> Iterator[Guilty]:
        return iter(self._guilty.values())

    def add(self, guilty: Guilty) -> None:
        known = self._guilty.pop(guilty.digest, None)
        if known is None and len(self._guilty) >= self._most:
            del self._guilty[next(iter(self._guilty))]
        self._guilty[guilty.digest] = guilty

    def find(self, digest: bytes, now_s: float) -> Guilty | None:
        guilty = self._guilty.get(digest)
        return guilty if guilty is not None and now_s < guilty.expires_s else None

    def forget(self, digest: bytes | None) -> int:
        """Forgets one, or with None all. Returns how many."""
        if digest is None:
            count = len(self._guilty)
            self._guilty.clear()
            return count
        return int(self._guilty.pop(digest, None) is not None)

    def prune(self, builds: Collection[str], now_s: float) -> None:
        """Forgets those that have expired, and those of builds that are gone. Without `builds` no
        engine is up, and the next may be of the same build."""
        self._guilty = {
            digest: guilty
            for digest, guilty in self._guilty.items()
            if now_s < guilty.expires_s and (not builds or guilty.build in builds)
        }
