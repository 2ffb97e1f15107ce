"""Evictions: deleting a pod as far as its disruption budgets allow."""

from tests.cluster.api import Api
from tests.cluster.errors import ApiError, Object
from tests.cluster.selectors import label_selector_matches


def evict(api: Api, namespace: str, name: str) -> Object:
    """The answer to an eviction; ApiError 429 where a budget forbids it."""
    kind = api.kinds["", "pods"]
    pod = api.get(kind, namespace, name)
    for budget in api.store.objects(("policy", "poddisruptionbudgets"), namespace):
        labels = pod["metadata"].get("labels", {})
        if not label_selector_matches(budget["spec"].get("selector"), labels):
            continue
        status = budget["status"]
        if status["disruptionsAllowed"] <= 0:
            raise ApiError(
                429,
                "TooManyRequests",
                "Cannot evict pod as it would violate the pod's disruption budget.",
                {"causes": [{"reason": "DisruptionBudget", "message": _state(budget)}]},
            )
    api.delete(kind, namespace, name)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _state(budget: Object) -> str:
    status = budget["status"]
    return (
        f"The disruption budget {budget['metadata']['name']} needs {status['desiredHealthy']} "
        f"healthy pods and has {status['currentHealthy']} currently"
    )
