"""How far the service is on its way up: weights, storage, Redis, head, groups, applications."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from serving.deploy.objects import Object, condition, is_ending, is_ready, labels_of
from serving.deploy.snapshot import JOB_NAME, Snapshot
from serving.deploy.waiting import Waiting, refused, waiting
from serving.start_errors import exception_of

GROUP, CLUSTER = "ray.io/group", "ray.io/cluster"
_FAILED = ("DEPLOY_FAILED", "UNHEALTHY")
_FINAL = {
    "ValidationFailed": "KubeRay rejects it",
    "InitializingTimeout": "KubeRay has given up; delete the RayService and apply it again",
}
"""Final reasons of the condition Ready."""


@dataclass(frozen=True)
class Stage:
    """A step of the service's start; once `failed`, it needs a change to get done."""

    name: str
    done: bool
    text: str
    waits: tuple[Waiting, ...] = ()
    failed: bool = False
    spare: bool = False
    """Whether the service is up without it: a Job that an `apply` has made again and that finds no
    node, beside engines that have their weights."""

    def lines(self) -> list[str]:
        """The stage, what its pods wait for and what helps; what several wait for is told once."""
        found = [f"{self.name}: {self.text}"]
        for why, fix in dict.fromkeys((each.why, each.fix) for each in self.waits):
            pods = [each.pod for each in self.waits if (each.why, each.fix) == (why, fix)]
            more = f" and {len(pods) - 1} more" if len(pods) > 1 else ""
            found.append(f"  {pods[0]}{more} {why}")
            if fix:
                found.append(f"    -> {fix}")
        return found


def stages(snapshot: Snapshot) -> list[Stage]:
    service = snapshot.service
    if service is None:
        return [Stage("service", False, "there is no RayService")]
    others = [
        *_stateful_sets(snapshot),
        *_groups(snapshot),
        *_applications(snapshot),
        _service(snapshot),
    ]
    up = all(stage.done for stage in others)
    jobs = (replace(job, spare=up and _homeless(job, snapshot)) for job in _jobs(snapshot))
    return [*_storage(snapshot), *jobs, *others]


def is_up(snapshot: Snapshot) -> bool:
    """Whether all that was applied has taken effect."""
    return all(stage.done or stage.spare for stage in stages(snapshot))


def _homeless(job: Stage, snapshot: Snapshot) -> bool:
    """Whether a Job's pod waits for a node."""
    waiting = {each.pod for each in job.waits}
    return any(
        pod["metadata"]["name"] in waiting
        and condition(pod, "PodScheduled").get("status") == "False"
        for pod in snapshot.pods
    )


def active_cluster(service: Object) -> str:
    """The name of the cluster that clients reach; "" while there is none."""
    return _cluster_name(service, "activeServiceStatus")


def pending_cluster(service: Object) -> str:
    """The name of the cluster that is to replace the active one; "" without one."""
    return _cluster_name(service, "pendingServiceStatus")


def _cluster_name(service: Object, which: str) -> str:
    status = (service.get("status") or {}).get(which) or {}
    return str(status.get("rayClusterName") or "")


def _storage(snapshot: Snapshot) -> Iterator[Stage]:
    unbound = [
        claim["metadata"]["name"]
        for claim in snapshot.claims
        if (claim.get("status") or {}).get("phase") != "Bound"
    ]
    if unbound:
        namespace = snapshot.claims[0]["metadata"]["namespace"]
        said = {
            name: [
                str(event.get("message"))
                for event in snapshot.events
                if event["involvedObject"].get("name") == name
            ]
            for name in unbound
        }
        waits = tuple(
            Waiting(f"claim {name}", (texts or ["is not bound yet"])[-1],
                    f"kubectl -n {namespace} describe pvc {name}")
            for name, texts in said.items()
        )  # fmt: skip
        yield Stage("storage", False, f"waits for {', '.join(unbound)}", waits)


def _jobs(snapshot: Snapshot) -> Iterator[Stage]:
    for job in snapshot.jobs:
        name = job["metadata"]["name"]
        if CLUSTER in labels_of(job):
            continue  # KubeRay's own, which cleans Redis
        pods = [pod for pod in snapshot.pods if labels_of(pod).get(JOB_NAME) == name]
        if condition(job, "Complete").get("status") == "True":
            yield Stage(name, True, "complete")
        elif (failed := condition(job, "Failed")).get("status") == "True":
            logs = f"kubectl -n {job['metadata']['namespace']} logs job/{name}"
            why = Waiting(f"job {name}", str(failed.get("message") or failed.get("reason")), logs)
            yield Stage(name, False, "failed", (why,), failed=True)
        else:
            text = snapshot.log_lines.get(name) or "has started"
            yield Stage(name, False, text, _waits(pods, [job], snapshot))


def _stateful_sets(snapshot: Snapshot) -> Iterator[Stage]:
    for each in snapshot.stateful_sets:
        wanted = each["spec"].get("replicas", 1)
        uid = each["metadata"].get("uid")
        pods = [
            pod
            for pod in snapshot.pods
            if any(ref["uid"] == uid for ref in pod["metadata"].get("ownerReferences", ()))
        ]
        yield _counted(each["metadata"]["name"], wanted, pods, [each], snapshot)


def _groups(snapshot: Snapshot) -> Iterator[Stage]:
    """The stages of the pending cluster, or else of the active one."""
    service = snapshot.service or {}
    name = pending_cluster(service) or active_cluster(service)
    cluster = next((c for c in snapshot.clusters if c["metadata"]["name"] == name), None)
    if cluster is None:
        waits = tuple(refused([service], snapshot.events))
        yield Stage("head", False, "KubeRay has created no cluster yet", waits)
        return
    of_cluster = [pod for pod in snapshot.pods if labels_of(pod).get(CLUSTER) == name]
    yield _counted("head", 1, _of_group(of_cluster, "headgroup"), [cluster], snapshot)
    for group in cluster["spec"].get("workerGroupSpecs") or ():
        least, hosts = int(group.get("minReplicas") or 0), int(group.get("numOfHosts") or 1)
        wanted = max(int(group.get("replicas") or 0), least) * hosts
        # A pod that the autoscaler adds may have no router, and is not ready then until it goes.
        # Whether replicas lack pods is told by their application.
        needed = least * hosts if cluster["spec"].get("enableInTreeAutoscaling") else wanted
        pods = _of_group(of_cluster, group["groupName"])
        yield _counted(group["groupName"], wanted, pods, [cluster], snapshot, needed)


def _counted(
    name: str,
    wanted: int,
    pods: list[Object],
    owners: list[Object],
    snapshot: Snapshot,
    needed: int | None = None,
) -> Stage:
    """The stage of a set of pods, which is done when all or those `needed` are ready."""
    staying = [pod for pod in pods if not is_ending(pod)]
    ready = sum(map(is_ready, staying))
    waits = _waits(pods, owners if len(staying) < wanted else [], snapshot)
    done = ready >= (wanted if needed is None else needed)
    return Stage(name, done, f"{ready} of {wanted} ready", waits)


def _waits(pods: list[Object], owners: list[Object], snapshot: Snapshot) -> tuple[Waiting, ...]:
    found = (waiting(pod, snapshot.events, snapshot.lost_nodes) for pod in pods)
    return (*refused(owners, snapshot.events), *(each for each in found if each is not None))


def _applications(snapshot: Snapshot) -> Iterator[Stage]:
    service = snapshot.service or {}
    status = service.get("status") or {}
    which = "pendingServiceStatus" if pending_cluster(service) else "activeServiceStatus"
    ending = [c["metadata"]["name"] for c in snapshot.clusters if is_ending(c)]
    if _cluster_name(service, which) in ending:
        yield Stage("application", False, "begins again in a new cluster, when the old one is gone")
        return
    for name, application in ((status.get(which) or {}).get("applicationStatuses") or {}).items():
        state = application.get("status", "")
        deployments = application.get("serveDeploymentStatuses") or {}
        unwell = [
            f"{deployment} {each.get('status')}: {each.get('message') or 'no message'}"
            for deployment, each in deployments.items()
            if each.get("status") != "HEALTHY"
        ]
        why = [application.get("message") or "", *unwell] if state != "RUNNING" else []
        text = "; ".join([state, *(_short(each) for each in why if each)])
        yield Stage(f"application {name}", state == "RUNNING", text, (), state in _FAILED)


def _service(snapshot: Snapshot) -> Stage:
    service = snapshot.service or {}
    status, metadata = service.get("status") or {}, service["metadata"]
    ready = condition(service, "Ready")
    if str(ready.get("reason")) in _FINAL:
        why = f"{_FINAL[ready['reason']]}: {ready.get('message')}"
        return Stage("service", False, why, failed=True)
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        waits = tuple(refused([service], snapshot.events))
        return Stage("service", False, "KubeRay has not seen the change yet", waits)
    pending, active = pending_cluster(service), active_cluster(service)
    if pending and active:
        text = f"{pending} is starting, {active} serves until it is ready"
        return Stage("service", False, text)
    if ready.get("status") == "True":
        return Stage("service", True, f"ready, on {active}")
    return Stage("service", False, str(ready.get("message") or "not ready"))


def _short(text: str) -> str:
    """A text, or of a trace the exception at its end."""
    words = exception_of(text)
    return words if len(words) <= 400 else "…" + words[-400:]


def _of_group(pods: list[Object], group: str) -> list[Object]:
    return [pod for pod in pods if labels_of(pod).get(GROUP) == group]
