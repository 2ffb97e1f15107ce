"""A replica's own process dies under load: the service recovers by itself, without any effect on
clients."""

import pytest

from tests.e2e.killed_engine import replica_names, unstreamed_load, wait_until_replaced
from tests.e2e.service import Service, title


@pytest.mark.full
def test_kill_9_of_a_replica(service: Service) -> None:
    before = replica_names(service)
    victim = next(
        p for p in service.processes if title(p).startswith("ray::ServeReplica:mistral:Engine")
    )
    with unstreamed_load(service) as load:
        victim.kill()
        wait_until_replaced(service, before)
        load.wait_for_more_answers()
    assert {answer.status_code for answer in load.answers} == {200}
    assert all(answer.json()["choices"] == load.expected for answer in load.answers)
    assert len(before & replica_names(service)) == 1
    assert {answer.headers["x-replica"] for answer in load.answers} - before
