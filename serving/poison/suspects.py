"""The requests that were in the last steps of engines that died, and what their deaths prove."""

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from serving.poison.messages import Suspected
from serving.poison.reason import SELF_INFLICTED, Death

_LEFT_S = 60.0
"""How long a request is kept after its client left: longer than an engine takes to find that it
hangs."""
_MOST_LEFT = 100
"""The most such requests that are kept of a replica; the oldest go first."""


@dataclass(slots=True)
class Case:
    """What one router has said of a suspect."""

    told: Suspected
    since_s: float
    """The time of its latest death, or when this router heard of it."""
    decided: bool = False
    """Whether its latest death has been decided, without a verdict on it."""


class Suspects:
    """The suspects of all routers, by digest."""

    def __init__(self, tie: int) -> None:
        """`tie` is this router's: see `Suspected.tie`."""
        self.own: dict[bytes, Case] = {}
        self.others: dict[str, dict[bytes, Case]] = {}
        self._tie = tie
        self._left: dict[str, dict[bytes, tuple[int, float]]] = {}
        """Requests whose clients left a replica before a byte of the answer: the shapes of their
        prompts, and when that was."""

    def items(self) -> Iterator[tuple[bytes, Case]]:
        for cases in (self.own, *self.others.values()):
            yield from cases.items()

    def of(self, digest: bytes) -> list[Case]:
        """Returns what each router says of a suspect; nothing if it is none."""
        found = (cases.get(digest) for cases in (self.own, *self.others.values()))
        return [case for case in found if case is not None]

    def deaths(self, digest: bytes) -> int:
        """Returns how many replicas died with this suspect in their last steps."""
        return len({one for case in self.of(digest) for one in case.told.replica_ids})

    def clear(self, digest: bytes) -> None:
        for cases in (self.own, *self.others.values()):
            cases.pop(digest, None)

    def add(
        self,
        digest: bytes,
        shape: int,
        death: Death,
        now_s: float,
        *,
        begun: bool = False,
        answered: bool = False,
        tried: bool = False,
    ) -> None:
        """Adds a request of this router that was in the last steps of a replica that died, `tried`
        if that was its trial. Only one for which a client waits can be tried."""
        replica_id, reason, of = death.replica_id, death.reason, death.of
        told = Suspected(
            digest, shape, begun, answered, [replica_id], reason, 1, of, tried, False, self._tie
        )
        if (known := self.own.get(digest)) is not None:
            before = known.told
            if before.replica_ids[-1] == replica_id:
                told = replace(
                    before,
                    begun=before.begun and begun,
                    requests=before.requests + 1,
                    tried=before.tried or tried,
                )
            else:
                earlier = [one for one in before.replica_ids if one != replica_id]
                told = replace(told, replica_ids=[*earlier, replica_id], waits=before.waits)
        self.own[digest] = Case(told, now_s)

    def wait(self, digest: bytes, waits: bool, now_s: float) -> None:
        """Notes whether a client of this router waits for the answer to a suspect."""
        if (case := self.own.get(digest)) is not None:
            case.told = replace(case.told, waits=waits)
        elif waits and (known := self.of(digest)):
            told = replace(known[0].told, requests=0, waits=waits, tie=self._tie)
            self.own[digest] = Case(told, now_s, decided=True)

    def leave(self, digest: bytes, shape: int, replica_id: str, now_s: float) -> None:
        """Notes a request whose client left before a byte of the answer: the replica may die of it
        later."""
        left = self._left.setdefault(replica_id, {})
        left[digest] = shape, now_s
        while len(left) > _MOST_LEFT:
            del left[next(iter(left))]

    def add_left(self, death: Death, now_s: float) -> set[bytes]:
        """Adds those that left a replica shortly before it died. Returns their digests."""
        left = self._left.pop(death.replica_id, {})
        recent = {one: shape for one, (shape, at_s) in left.items() if now_s - at_s < _LEFT_S}
        for digest, shape in recent.items():
            self.add(digest, shape, death, now_s)
        return set(recent)

    def forget_left(self, now_s: float) -> None:
        """Forgets the replicas that no client has left recently."""
        self._left = {
            replica_id: left
            for replica_id, left in self._left.items()
            if any(now_s - at_s < _LEFT_S for _, at_s in left.values())
        }

    def guilty_of(self, replica_id: str) -> bytes | None:
        """Returns the one that a replica must have died of, if its death proves that:

        - the only one that was in its last steps, if it was tried, or the reason is its own;
        - the only one that another replica has died with as well, or two others if its answer had
          begun. Those whose prompts were answered before do not count: requests that are sent again
          and again are in many deaths.

        If a suspect had company in its trial, that proves nothing.
        """
        found: dict[bytes, list[Suspected]] = {}
        for digest, case in self.items():
            if replica_id in case.told.replica_ids:
                found.setdefault(digest, []).append(case.told)
        in_prefill = {
            digest: of_one
            for digest, of_one in found.items()
            if not all(one.begun for one in of_one)
        }
        found = in_prefill or found
        deaths_needed = 2 if in_prefill else 3
        told = [one for of_one in found.values() for one in of_one]
        latest = [one for one in told if one.replica_ids[-1] == replica_id]
        tried = any(one.tried for one in latest)
        if len(found) == 1:
            of = next((one.of for one in latest if one.of is not None), None)
            is_only = tried if of is None else sum(one.requests for one in latest) >= of
            own_fault = all(one.reason in SELF_INFLICTED for one in latest)
            if is_only and (tried or own_fault):
                return told[0].digest
        again = [
            digest
            for digest, of_one in found.items()
            if self.deaths(digest) >= deaths_needed and not any(one.answered for one in of_one)
        ]
        return again[0] if len(again) == 1 and not tried else None
