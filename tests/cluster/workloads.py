"""The controllers of Kubernetes that make pods of workloads, bind claims and tell budgets' state.

Simpler than the real ones: a Deployment owns its pods itself, and a changed template replaces all
pods at once.
"""

import hashlib
import json
from dataclasses import dataclass

from tests.cluster import quota
from tests.cluster.api import Api, now
from tests.cluster.errors import ApiError
from tests.cluster.events import record
from tests.cluster.schemas import Object
from tests.cluster.selectors import label_selector_matches
from tests.cluster.store import copied

_PODS = ("", "pods")
_CLAIMS = ("", "persistentvolumeclaims")
_BUDGETS = ("policy", "poddisruptionbudgets")
# Owners whose wanted number of pods the disruption controller can read.
_SCALABLE = ("Deployment", "StatefulSet")


def owner_reference(owner: Object) -> Object:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }


def is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def owned(api: Api, owner: Object, resource: tuple[str, str] = _PODS) -> list[Object]:
    uid = owner["metadata"]["uid"]

    def is_owned(found: Object) -> bool:
        return any(ref["uid"] == uid for ref in found["metadata"].get("ownerReferences", ()))

    return api.store.objects(resource, owner["metadata"]["namespace"], is_owned)


def create_owned(api: Api, owner: Object, obj: Object, failure: str) -> None:
    """Creates what a controller makes for its owner; a refusal becomes an event `failure`."""
    metadata = obj["metadata"]
    metadata["ownerReferences"] = [owner_reference(owner)]
    kind = api.kind_of(obj["apiVersion"], obj["kind"])
    assert kind is not None
    namespace = owner["metadata"]["namespace"]
    if api.store.has(kind.resource, namespace, metadata["name"]):
        return
    try:
        api.create(kind, namespace, obj)
    except ApiError as error:
        record(api, owner, failure, f"Error creating: {error.message}")


def report(api: Api, obj: Object, status: Object) -> None:
    """Writes the status where it differs, with the times of conditions that did not change."""
    before = {each["type"]: each for each in obj.get("status", {}).get("conditions", ())}
    for condition in status.get("conditions", ()):
        old = before.get(condition["type"], {})
        same = old.get("status") == condition["status"]
        condition["lastTransitionTime"] = old["lastTransitionTime"] if same else now()
        condition.setdefault("reason", condition["type"])
        condition.setdefault("message", "")
    if status != obj.get("status", {}):
        kind = api.kind_of(obj["apiVersion"], obj["kind"])
        assert kind is not None
        metadata = obj["metadata"]
        body = copied(obj) | {"status": status}
        api.update(kind, metadata.get("namespace", ""), metadata["name"], body, status=True)


@dataclass
class Workloads:
    """A controller of an Api."""

    api: Api

    def __call__(self) -> None:
        store = self.api.store
        for namespace in store.objects(("", "namespaces")):
            self._furnish(namespace)
        for stateful_set in store.objects(("apps", "statefulsets")):
            self._claims(stateful_set)
        for claim in store.objects(_CLAIMS):
            self._bind(claim)
        for deployment in store.objects(("apps", "deployments")):
            self._replicas(deployment, _suffix(deployment))
        for stateful_set in store.objects(("apps", "statefulsets")):
            self._replicas(stateful_set, "")
        for job in store.objects(("batch", "jobs")):
            self._job(job)
        for budget in store.objects(_BUDGETS):
            self._budget(budget)
        for limit in store.objects(quota.QUOTAS):
            used = {name: f"{amount:f}" for name, amount in quota.used(store, limit).items()}
            report(self.api, limit, {"hard": limit["spec"].get("hard", {}), "used": used})

    def _furnish(self, namespace: Object) -> None:
        """What each namespace has: an account for its pods, and the API server's certificate."""
        if "deletionTimestamp" in namespace["metadata"]:
            return
        name = namespace["metadata"]["name"]
        account: Object = {"metadata": {"name": "default"}}
        certificate = {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "of the test"}}
        for plural, body in (("serviceaccounts", account), ("configmaps", certificate)):
            kind = self.api.kinds["", plural]
            if not self.api.store.has(kind.resource, name, body["metadata"]["name"]):
                self.api.create(kind, name, body)

    def _replicas(self, owner: Object, suffix: str) -> None:
        spec, name = owner["spec"], owner["metadata"]["name"]
        template = _hash(spec["template"])
        pods = owned(self.api, owner)
        wanted = {
            f"{name}{suffix}-{index}": _pod(owner, f"{name}{suffix}-{index}", template)
            for index in range(spec["replicas"])
        }
        for pod in pods:
            made_of = pod["metadata"]["annotations"]["template"]
            if pod["metadata"]["name"] not in wanted or made_of != template:
                self.api.delete(
                    self.api.kinds[_PODS], pod["metadata"]["namespace"], pod["metadata"]["name"]
                )
        for pod in wanted.values():
            create_owned(self.api, owner, pod, "FailedCreate")
        pods = owned(self.api, owner)
        ready = sum(map(is_ready, pods))
        status: Object = {
            "observedGeneration": owner["metadata"]["generation"],
            "replicas": len(pods),
            "updatedReplicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        if owner["kind"] == "StatefulSet":
            status |= {"currentRevision": template, "updateRevision": template}
        else:
            available = ready >= spec["replicas"]
            status["conditions"] = [
                {"type": "Available", "status": str(available)},
                {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
            ]
        report(self.api, owner, status)

    def _claims(self, stateful_set: Object) -> None:
        name = stateful_set["metadata"]["name"]
        for template in stateful_set["spec"].get("volumeClaimTemplates", ()):
            for index in range(stateful_set["spec"]["replicas"]):
                claim = copied(template)
                labels = template["metadata"].get("labels", {})
                claim["metadata"] = {
                    "name": f"{template['metadata']['name']}-{name}-{index}",
                    "labels": labels | stateful_set["spec"]["selector"].get("matchLabels", {}),
                }
                self._create_claim(stateful_set, claim)

    def _create_claim(self, owner: Object, claim: Object) -> None:
        namespace = owner["metadata"]["namespace"]
        if not self.api.store.has(_CLAIMS, namespace, claim["metadata"]["name"]):
            claim = {name: value for name, value in claim.items() if name != "status"}
            try:
                self.api.create(self.api.kinds[_CLAIMS], namespace, claim)
            except ApiError as error:
                record(self.api, owner, "FailedCreate", f"Error creating: {error.message}")

    def _job(self, job: Object) -> None:
        status = job.get("status", {})
        if any(each["type"] in ("Complete", "Failed") for each in status.get("conditions", ())):
            return
        if job["spec"].get("suspend"):
            return
        pod = _pod(job, f"{job['metadata']['name']}-0", "")
        labels = pod["metadata"].setdefault("labels", {})
        labels |= {"job-name": job["metadata"]["name"]}
        labels |= {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
        create_owned(self.api, job, pod, "FailedCreate")
        phases = [pod["status"].get("phase") for pod in owned(self.api, job)]
        new: Object = {
            "active": sum(phase in ("Pending", "Running") for phase in phases),
            "succeeded": phases.count("Succeeded"),
            "failed": phases.count("Failed"),
        }
        if "Succeeded" in phases:
            new["completionTime"] = now()
            new["conditions"] = [{"type": "Complete", "status": "True"}]
        elif "Failed" in phases:
            why = {"reason": "BackoffLimitExceeded", "message": "Job has reached its backoff limit"}
            new["conditions"] = [{"type": "Failed", "status": "True"} | why]
        report(self.api, job, new)

    def _bind(self, claim: Object) -> None:
        if claim["status"].get("phase") == "Bound":
            return
        classes = self.api.store.objects(("storage.k8s.io", "storageclasses"))
        volumes = self.api.store.objects(("", "persistentvolumes"))
        named = claim["spec"].get("storageClassName")
        default = "storageclass.kubernetes.io/is-default-class"
        for found in [*classes, *volumes]:
            annotations = found["metadata"].get("annotations", {})
            chosen = (
                annotations.get(default) == "true"
                if named is None
                else found["metadata"]["name"] in (named, claim["spec"].get("volumeName"))
            )
            if chosen:
                capacity = claim["spec"]["resources"]["requests"]
                modes = claim["spec"]["accessModes"]
                report(self.api, claim, {
                    "phase": "Bound", "capacity": capacity, "accessModes": modes,
                })  # fmt: skip
                return
        why = (
            f'storageclass.storage.k8s.io "{named}" not found'
            if named
            else "no persistent volumes available for this claim and no storage class is set"
        )
        record(self.api, claim, "ProvisioningFailed" if named else "FailedBinding", why)

    def _budget(self, budget: Object) -> None:
        namespace = budget["metadata"]["namespace"]
        selector = budget["spec"].get("selector")
        pods = [
            pod
            for pod in self.api.store.objects(_PODS, namespace)
            if label_selector_matches(selector, pod["metadata"].get("labels", {}))
        ]
        healthy = sum(map(is_ready, pods))
        spec = budget["spec"]
        if "minAvailable" in spec:
            desired = _share(spec["minAvailable"], len(pods))
        else:
            desired = len(pods) - _share(spec.get("maxUnavailable", 0), len(pods))
        status: Object = {
            "observedGeneration": budget["metadata"]["generation"],
            "expectedPods": len(pods),
            "currentHealthy": healthy,
            "desiredHealthy": max(0, desired),
            "disruptionsAllowed": max(0, healthy - max(0, desired)),
        }
        unscalable = any(_owner_kind(pod) not in _SCALABLE for pod in pods)
        if unscalable and not isinstance(spec.get("minAvailable"), int):
            # Without the count that an owner wants there is nothing to take a share of.
            status |= {"expectedPods": 0, "desiredHealthy": 0, "disruptionsAllowed": 0}
            status["conditions"] = [
                {
                    "type": "DisruptionAllowed",
                    "status": "False",
                    "reason": "SyncFailed",
                    "message": "the pods' owner does not implement the scale subresource",
                }
            ]
        report(self.api, budget, status)


def _owner_kind(pod: Object) -> str:
    return str(next((ref["kind"] for ref in pod["metadata"].get("ownerReferences", ())), ""))


def _share(amount: int | str, total: int) -> int:
    """A number of pods, or a percentage of them, rounded up."""
    if isinstance(amount, int):
        return amount
    return -(-total * int(amount.rstrip("%")) // 100)


def _pod(owner: Object, name: str, template: str) -> Object:
    made = copied(owner["spec"]["template"])
    metadata = made.get("metadata", {})
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": metadata.get("labels", {}),
            "annotations": metadata.get("annotations", {}) | {"template": template},
        },
        "spec": made["spec"],
    }
    for claim in owner["spec"].get("volumeClaimTemplates", ()):
        volume = claim["metadata"]["name"]
        pod["spec"].setdefault("volumes", []).append(
            {"name": volume, "persistentVolumeClaim": {"claimName": f"{volume}-{name}"}}
        )
    return pod


def _suffix(owner: Object) -> str:
    return f"-{_hash(owner['spec']['template'])}"


def _hash(value: Object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
