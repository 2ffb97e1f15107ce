"""A replica's vLLM process dies under load: each stream resumes on the other replica without a
trace, and no unstreamed request is affected."""

from tests.e2e.killed_engine import KilledEngine
from tests.e2e.service import Service


def test_streams_go_on_from_the_other_replica(
    service: Service, killed_engine: KilledEngine
) -> None:
    for prompt, stream in killed_engine.streams:
        assert stream.answer() == killed_engine.undisturbed[prompt].answer()
    continued = [line for line in service.request_log() if line["continued"]]
    assert continued
    assert all(line["retries"] >= line["continued"] for line in continued)


def test_each_unstreamed_request_is_answered(killed_engine: KilledEngine) -> None:
    load = killed_engine.unstreamed
    assert {answer.status_code for answer in load.answers} == {200}
    assert all(answer.json()["choices"] == load.expected for answer in load.answers)


def test_the_replica_is_replaced_and_serves(killed_engine: KilledEngine) -> None:
    assert len(killed_engine.before & killed_engine.after) == 1
    served_by = {answer.headers["x-replica"] for answer in killed_engine.unstreamed.answers}
    assert served_by - killed_engine.before
