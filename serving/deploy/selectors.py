"""Label selectors, and why a node does not accept a pod."""

from serving.deploy.objects import Object, is_ready, labels_of


def selects(selector: Object | None, labels: dict[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches all, None nothing."""
    if selector is None:
        return False
    exact = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return exact and all(_holds(each, labels) for each in selector.get("matchExpressions") or ())


def _holds(expression: Object, labels: dict[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case "Gt":
            return key in labels and int(labels[key]) > int(values[0])
        case _:
            return key in labels and int(labels[key]) < int(values[0])


def refusal(node: Object, pod_spec: Object) -> str:
    """Why a node does not accept a pod, its free resources aside; "" if it does."""
    labels, spec = labels_of(node), node.get("spec") or {}
    if spec.get("unschedulable"):
        return "is cordoned"
    if not is_ready(node):
        return "is not ready"
    if any(labels.get(k) != v for k, v in (pod_spec.get("nodeSelector") or {}).items()):
        return "does not have the labels of the nodeSelector"
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required and not any(selects(term, labels) for term in required["nodeSelectorTerms"]):
        return "does not match the node affinity"
    tolerations = pod_spec.get("tolerations") or ()
    for taint in spec.get("taints") or ():
        tolerated = any(_tolerates(toleration, taint) for toleration in tolerations)
        if taint["effect"] != "PreferNoSchedule" and not tolerated:
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"has the taint {taint['key']}{value}:{taint['effect']}"
    return ""


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    same_value = toleration.get("value", "") == taint.get("value", "")
    return bool(toleration.get("key") == taint["key"] and same_value)
