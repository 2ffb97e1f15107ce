"""What the API server says of a namespace that is being deleted."""

from tests.cluster.errors import ApiError, forbidden
from tests.cluster.schemas import Kind, Object


def terminating(kind: Kind, name: str, namespace: str) -> ApiError:
    """The refusal of a new object in it."""
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    error = forbidden(kind.group, kind.plural, name, why)
    error.details["causes"] = [
        {
            "reason": "NamespaceTerminating",
            "message": f"namespace {namespace} is being terminated",
            "field": "metadata.namespace",
        }
    ]
    return error


def remaining(objects: list[Object]) -> list[Object]:
    """The conditions of one in which these objects are left."""
    found = [each for obj in objects for each in obj["metadata"].get("finalizers", ())]
    counts = [f"{each} in {found.count(each)} resource instances" for each in sorted({*found})]
    message = f"Some content in the namespace has finalizers remaining: {', '.join(counts)}"
    return [
        {
            "type": "NamespaceFinalizersRemaining",
            "status": "True",
            "reason": "SomeFinalizersRemain",
            "message": message,
        }
    ]
