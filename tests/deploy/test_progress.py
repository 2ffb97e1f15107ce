"""serving/deploy/progress.py: when waiting ends."""

from dataclasses import replace
from typing import Any

from serving.deploy.progress import Progress
from serving.deploy.snapshot import Snapshot

Object = dict[str, Any]
UP = {"type": "Ready", "status": "True"}


def snapshot(*conditions: Object, reason: str = "", **service: Any) -> Snapshot:
    """A service with a head alone, which is ready or waits for that reason."""
    metadata = {"name": "mistral", "namespace": "n", "generation": 2}
    status = {
        "observedGeneration": 2,
        "conditions": list(conditions),
        "activeServiceStatus": {"rayClusterName": "mistral-a"},
    }
    labels = {"ray.io/cluster": "mistral-a", "ray.io/group": "headgroup"}
    waits = {"name": "ray-head", "image": "i", "state": {"waiting": {"reason": reason}}}
    head_status = {"containerStatuses": [waits]} if reason else {"conditions": [UP]}
    return Snapshot(
        service={"kind": "RayService", "metadata": metadata, "status": status | service},
        clusters=[{"kind": "RayCluster", "metadata": {"name": "mistral-a"}, "spec": {}}],
        pods=[{"metadata": {"name": "head", "labels": labels}, "spec": {}, "status": head_status}],
    )


PULL = "ImagePullBackOff"


def test_a_service_that_is_up_ends_the_wait() -> None:
    progress = Progress(0, 60)
    assert progress.see(snapshot(UP), 1) == ""
    assert progress.done


def test_a_change_that_the_operator_has_not_seen_is_not_up() -> None:
    progress = Progress(0, 60)
    assert progress.see(snapshot(UP, observedGeneration=1), 1) == ""
    assert not progress.done


def test_a_failed_pull_is_given_its_time_and_no_more() -> None:
    progress = Progress(0, 3600)
    assert progress.see(snapshot(reason=PULL), 10) == ""
    assert progress.see(snapshot(reason=PULL), 129) == ""
    assert "cannot pull its image" in progress.see(snapshot(reason=PULL), 130)


def test_a_pull_that_succeeds_meanwhile_starts_the_clock_anew() -> None:
    progress = Progress(0, 3600)
    progress.see(snapshot(reason=PULL), 10)
    progress.see(snapshot(), 100)
    assert progress.see(snapshot(reason=PULL), 135) == ""


def test_the_time_out_tells_what_is_not_done() -> None:
    progress = Progress(0, 120)
    assert progress.see(snapshot(reason="ContainerCreating"), 119) == ""
    late = progress.see(snapshot(reason="ContainerCreating"), 120)
    assert late.startswith("not up after 2 minutes; head: 0 of 1 ready")


def test_what_kuberay_refuses_is_hopeless() -> None:
    refused = {
        "type": "Ready", "status": "False", "reason": "ValidationFailed", "message": "bad spec"
    }  # fmt: skip
    progress = Progress(0, 3600)
    assert progress.see(snapshot(refused), 0) == ""
    assert "KubeRay rejects it: bad spec" in progress.see(snapshot(refused), 30)


def test_a_failed_application_is_not_hopeless_while_its_cluster_is_replaced() -> None:
    failed = {"mistral": {"status": "DEPLOY_FAILED"}}
    active = {"rayClusterName": "mistral-a", "applicationStatuses": failed}
    seen = snapshot(UP, activeServiceStatus=active)
    progress = Progress(0, 3600)
    progress.see(seen, 0)
    assert "DEPLOY_FAILED" in progress.see(seen, 30)
    seen.clusters[0]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    progress = Progress(0, 3600)
    progress.see(seen, 0)
    assert progress.see(seen, 30) == ""
    assert not progress.done


def test_a_part_of_the_stages_can_be_waited_for() -> None:
    progress = Progress(0, 60, frozenset({"head"}))
    assert progress.see(snapshot(), 1) == ""
    assert progress.done


def test_a_job_that_finds_no_node_beside_a_service_that_is_up_is_not_waited_for() -> None:
    labels = {"batch.kubernetes.io/job-name": "weights"}
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "Insufficient cpu"}
    pod = {"metadata": {"name": "weights-x", "labels": labels}, "spec": {},
           "status": {"phase": "Pending", "conditions": [unscheduled]}}  # fmt: skip
    job = {"kind": "Job", "metadata": {"name": "weights", "namespace": "n"}}

    def seen(progress: Progress, at: Snapshot) -> bool:
        progress.see(replace(at, jobs=[job], pods=[*at.pods, pod]), 1)
        return progress.done

    assert seen(Progress(0, 60), snapshot(UP))
    assert not seen(Progress(0, 60), snapshot(UP, reason=PULL))
    # A rollout applies the service when the Job is done.
    assert not seen(Progress(0, 60, frozenset({"weights"})), snapshot(UP))
