"""What a router knows of suspects, and what it decides."""

import pytest

from serving.poison import SETTLE_S, Death, PoisonGuard, PoisonMessage, Reason, Trial
from serving.poison import guard as guard_module

A, B, C = b"a", b"b", b"c"
KEEP_S, PATIENCE_S = 3600.0, 100.0
SETTLED_S = SETTLE_S + 0.01


class Router:
    """A guard whose messages reach the others at once."""

    def __init__(self, tie: int = 1, *replicas: str) -> None:
        self.guard = PoisonGuard(tie, KEEP_S, PATIENCE_S)
        self.guard.update(dict.fromkeys(replicas, "build"), 0)
        self.name = f"router-{tie}"
        self.now_s = 0.0
        self.published: list[PoisonMessage] = []
        self.guard.publish = self.published.append

    def died(
        self,
        digest: bytes,
        replica: str,
        of: int | None,
        reason: Reason = "crash",
        begun: bool = False,
        answered: bool = False,
    ) -> None:
        death = Death(replica, reason, of)
        self.guard.died(digest, digest[0], death, self.now_s, begun, answered)

    def waits(self, *digests: bytes) -> None:
        for digest in digests:
            self.guard.wait(digest, True, self.now_s)

    def poll(self, after_s: float = SETTLED_S, **loads: int) -> Trial | None:
        self.now_s += after_s
        return self.guard.poll(self.now_s, loads)

    def tried(self, after_s: float = SETTLED_S, **loads: int) -> bytes | None:
        """Returns the suspect whose turn it is, for which no other client waits."""
        trial = self.poll(after_s, **loads)
        if trial is None:
            return None
        self.guard.wait(trial.digest, False, self.now_s)
        return trial.digest

    def is_guilty(self, digest: bytes) -> bool:
        return self.guard.find(digest, self.now_s) is not None


def share(*routers: Router) -> None:
    """Delivers what the routers have published."""
    for sender in routers:
        messages = list(sender.published)
        sender.published.clear()
        for other in routers:
            for message in messages if other is not sender else ():
                other.guard.receive(sender.name, message, other.now_s)


@pytest.mark.parametrize("reason", ["crash", "hang"])
def test_the_only_suspect_of_a_death_by_its_own_step_is_guilty_at_once(reason: Reason) -> None:
    router = Router()
    router.died(A, "r1", of=1, reason=reason)
    assert router.poll(r2=5) is None
    assert router.is_guilty(A)
    assert not router.guard.is_suspect(A)


@pytest.mark.parametrize("reason", ["cuda_out_of_memory", "out_of_memory", "killed"])
def test_the_only_suspect_of_another_death_is_tried(reason: Reason) -> None:
    router = Router()
    router.died(A, "r1", of=1, reason=reason)
    router.waits(A)
    assert router.tried(r2=0, busy=5) == A
    assert not router.is_guilty(A)
    router.died(A, "r2", of=1, reason=reason)
    router.poll()
    assert router.is_guilty(A)


def test_copies_of_one_request_are_one_suspect() -> None:
    router = Router()
    router.died(A, "r1", of=2)
    router.died(A, "r1", of=2)
    router.poll()
    assert router.is_guilty(A)


def test_a_suspect_that_another_router_has_not_told_of_yet_saves_the_one_that_is_known() -> None:
    router = Router()
    router.died(A, "r1", of=2)
    router.waits(A)
    assert router.tried(r2=0, busy=5) == A
    assert not router.is_guilty(A)


def test_several_suspects_are_tried_one_by_one_on_an_idle_replica() -> None:
    router = Router()
    router.died(B, "r1", of=2)
    router.died(A, "r1", of=2)
    router.waits(A, B)
    assert router.tried(r2=3) is None
    assert router.tried(r2=3, r3=0) == A
    assert router.guard.quarantined(router.now_s) == "r3"
    assert router.tried(0.1, r2=3, r3=1) is None
    router.guard.passed(A)
    assert router.tried(0.1, r2=3, r3=1) == B
    router.died(B, "r3", of=1)
    router.poll()
    assert (router.is_guilty(A), router.is_guilty(B)) == (False, True)
    assert router.guard.quarantined(router.now_s) is None


def test_a_replica_that_starts_while_there_are_suspects_takes_them_alone_but_not_for_long() -> None:
    router = Router(1, "r1")
    router.died(A, "r1", of=3)
    router.waits(A)
    router.guard.update({"new": "build"}, router.now_s)
    assert router.guard.quarantined(router.now_s) == "new"
    assert router.guard.quarantined(router.now_s + 31) is None
    assert router.tried(new=9) == A


@pytest.mark.parametrize(
    ("reason", "patience_s"), [("crash", PATIENCE_S), ("unreachable", guard_module._HURRY_S)]
)
def test_without_a_replica_that_is_idle_any_will_do_after_a_while(
    reason: Reason, patience_s: float
) -> None:
    router = Router()
    router.died(A, "r1", of=None, reason=reason)
    router.waits(A)
    assert router.tried(r2=9, r3=8) is None
    trial = router.poll(patience_s, r2=9, r3=8)
    assert trial is not None and trial.replica_id == "r3"


def test_the_last_replica_is_not_risked_for_a_suspect_while_another_is_to_come() -> None:
    router = Router(1, "r1", "r2")
    router.died(A, "r1", of=2)
    router.waits(A)
    assert router.tried(r2=0) is None
    router.guard.update({"r2": "build", "new": "build"}, router.now_s)
    trial = router.poll(r2=0, new=0)
    assert trial is not None and trial.replica_id == "new"


def test_a_trial_without_a_byte_holds_up_the_next_for_a_second() -> None:
    router = Router()
    for digest in (A, B):
        router.died(digest, "r1", of=2)
    router.waits(A, B)
    assert router.tried(r2=0, busy=5) == A
    assert router.tried(0.9, r2=1) is None
    assert router.tried(0.2, r2=1) == B
    assert router.guard.trials == 2


def test_suspects_that_died_in_company_in_their_trials_are_tried_strictly_alone() -> None:
    router = Router()
    for digest in (A, B):
        router.died(digest, "r1", of=2)
    router.waits(A, B)
    assert [router.tried(r2=0, busy=5), router.tried(1.1, r2=1)] == [A, B]
    for digest in (A, B):
        router.died(digest, "r2", of=2)
    router.waits(A, B)
    assert router.tried(r3=0, busy=5) == A
    assert router.tried(30, r3=1) is None
    router.guard.passed(A)
    assert router.tried(0.1, r3=1) == B
    router.died(B, "r3", of=1)
    router.poll()
    assert (router.is_guilty(A), router.is_guilty(B)) == (False, True)


@pytest.mark.parametrize("was_answered", [False, True])
def test_what_two_deaths_have_in_common_is_guilty_unless_it_was_answered_before(
    was_answered: bool,
) -> None:
    router = Router()
    for replica, other in (("r1", B), ("r2", C)):
        router.died(A, replica, of=2, answered=was_answered)
        router.died(other, replica, of=2)
    router.poll()
    assert router.is_guilty(A) is not was_answered
    assert not router.is_guilty(B) and not router.is_guilty(C)


def test_a_request_that_is_sent_again_and_again_does_not_hide_what_two_deaths_have_in_common() -> (
    None
):
    router = Router()
    for replica in ("r1", "r2"):
        router.died(A, replica, of=2)
        router.died(B, replica, of=2, answered=True)
    router.poll()
    assert (router.is_guilty(A), router.is_guilty(B)) == (True, False)


def test_an_answer_that_had_begun_is_suspected_only_of_a_death_with_no_request_in_its_prefill() -> (
    None
):
    one, other = Router(1), Router(2)
    one.died(A, "r1", of=1, reason="unreachable")
    other.died(B, "r0", of=None, begun=True)
    other.died(B, "r1", of=None, begun=True)
    share(one, other)
    one.poll()
    other.poll()
    assert one.guard.is_suspect(A) and not other.guard.is_suspect(B)

    other.died(B, "r2", of=None, reason="unreachable", begun=True)
    other.waits(B)
    assert other.tried(r3=0, busy=5) == B
    other.died(B, "r3", of=None, reason="unreachable", begun=True)
    other.poll()
    assert other.is_guilty(B)


def test_the_only_answer_that_three_engines_died_in_is_guilty_without_a_trial() -> None:
    router = Router()
    for replica in ("r1", "r2", "r3"):
        assert not router.is_guilty(A)
        router.died(A, replica, of=None, reason="unreachable", begun=True)
        router.poll()
    assert router.is_guilty(A)


def test_no_suspect_is_tried_before_the_deaths_of_all_are_settled() -> None:
    router = Router()
    router.died(B, "r1", of=2)
    router.waits(B)
    router.now_s += 0.5
    router.died(A, "r2", of=2)
    router.waits(A)
    assert router.tried(0, r3=0, busy=5) is None
    assert router.tried(r3=0, busy=5) == A


def test_a_suspect_whose_client_has_left_is_tried_when_it_comes_again() -> None:
    router = Router()
    router.guard.left(A, A[0], "r1", router.now_s)
    router.died(B, "r1", of=2)
    router.waits(B)
    assert router.guard.is_suspect(A)
    assert router.tried(r2=0, busy=5) == B
    router.guard.passed(B)
    assert router.tried(r2=0, busy=5) is None
    router.waits(A)
    assert router.tried(r2=0, busy=5) == A


def test_one_that_left_long_before_the_death_is_no_suspect() -> None:
    router = Router()
    router.guard.left(A, A[0], "r1", router.now_s)
    router.now_s += 61
    router.died(B, "r1", of=1)
    assert not router.guard.is_suspect(A)


def test_a_suspect_for_which_no_one_waits_is_forgotten_in_the_end() -> None:
    router = Router()
    router.died(A, "r1", of=2)
    router.poll(601)
    assert not router.guard.is_suspect(A)
    assert router.guard.suspicious == frozenset()


def test_a_trial_without_a_result_is_repeated() -> None:
    router = Router()
    router.died(A, "r1", of=2)
    router.waits(A)
    assert router.tried(r2=0, busy=5) == A
    router.guard.ended(A)
    router.waits(A)
    assert router.tried(r2=0, busy=5) == A


def test_the_guilty_are_forgotten_after_a_while_and_with_their_build() -> None:
    router = Router(1, "r1")
    router.died(A, "r1", of=1)
    router.poll()
    assert router.is_guilty(A)
    router.guard.update({}, router.now_s)
    router.guard.update({"r2": "build", "r3": "newer"}, router.now_s)
    assert router.is_guilty(A)
    router.guard.update({"r3": "newer"}, router.now_s)
    assert not router.is_guilty(A)
    assert router.guard.suspicious == frozenset()

    router.died(B, "r3", of=1)
    router.poll()
    assert router.is_guilty(B)
    router.now_s += KEEP_S
    assert not router.is_guilty(B)


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "_MOST", 2)
    router = Router()
    for digest in (A, B, C):
        router.died(digest, "r", of=1)
        router.poll()
    assert [router.is_guilty(one) for one in (A, B, C)] == [False, True, True]


def test_routers_share_verdicts_and_pardons() -> None:
    one, other = Router(1), Router(2)
    one.died(A, "r1", of=1)
    one.poll()
    share(one, other)
    assert other.is_guilty(A)
    assert other.guard.suspicious == {A[0]}
    assert other.guard.pardon(A) == 1
    share(one, other)
    assert not one.is_guilty(A)
    one.died(A, "r2", of=1)
    one.poll()
    share(one, other)
    assert one.guard.pardon(None) == 1
    share(one, other)
    assert not other.is_guilty(A)


def test_a_new_router_is_told_of_verdicts_suspects_and_trials() -> None:
    one, new = Router(1), Router(2)
    one.died(A, "r1", of=1)
    one.poll()
    one.died(B, "r2", of=2)
    one.died(C, "r2", of=2)
    one.waits(B, C)
    assert one.tried(r3=0, busy=5) == B
    for message in one.guard.snapshot(one.now_s):
        new.guard.receive("router-1", message, new.now_s)
    assert new.is_guilty(A)
    assert new.guard.is_suspect(B) and new.guard.is_suspect(C)
    assert new.guard.quarantined(new.now_s) == "r3"


def test_two_routers_try_their_suspects_in_turns_and_one_that_both_have_once() -> None:
    one, other = Router(1), Router(2)
    for router, digest in ((one, A), (other, B), (one, C), (other, C)):
        router.died(digest, "r1", of=4)
        router.waits(digest)
    share(one, other)
    assert [other.tried(r2=0, busy=5), one.tried(r2=0, busy=5)] == [None, A]
    share(one, other)
    one.guard.passed(A)
    share(one, other)
    assert [one.tried(0.1, r2=0, busy=5), other.tried(0.1, r2=0, busy=5)] == [None, B]
    share(one, other)
    other.guard.passed(B)
    share(one, other)
    assert [other.tried(0.1, r2=0, busy=5), one.tried(0.1, r2=0, busy=5)] == [None, C]
    share(one, other)
    one.guard.passed(C)
    share(one, other)
    assert not other.guard.is_suspect(C)


def test_a_copy_at_another_router_waits_too_and_is_tried_there_if_the_first_is_gone() -> None:
    one, other = Router(1), Router(2)
    one.died(A, "r1", of=2)
    one.waits(A)
    share(one, other)
    other.waits(A)
    share(one, other)
    assert other.tried(r2=0, busy=5) is None
    other.guard.forget("router-1")
    assert other.tried(r2=0, busy=5) == A


def test_a_router_that_is_gone_takes_its_suspects_and_trials_along() -> None:
    one, other = Router(1), Router(2)
    one.died(A, "r1", of=2)
    one.waits(A)
    assert one.tried(r2=0, busy=5) == A
    share(one, other)
    assert other.guard.quarantined(other.now_s) == "r2"
    other.guard.forget("router-1")
    assert other.guard.quarantined(other.now_s) is None
    assert not other.guard.is_suspect(A)


def test_without_a_suspect_there_is_nothing_to_do() -> None:
    router = Router(1, "r1")
    assert router.poll(r1=0) is None
    assert router.guard.next_due_s(router.now_s) is None
    assert router.guard.quarantined(router.now_s) is None


def test_a_death_counts_once_by_its_reason() -> None:
    router = Router(1, "r1", "r2")
    router.died(A, "r1", of=2)
    router.died(B, "r1", of=2)
    router.died(C, "r2", of=1, reason="hang")
    assert router.guard.deaths == {"crash": 1, "hang": 1}
