"""Amounts as Kubernetes writes them: 500m, 16Gi."""

from decimal import Decimal

from serving.deploy.errors import BadInput

_BYTES = ("memory", "storage")


def quantity(text: object) -> Decimal:
    """The amount in its base unit: CPUs, bytes or pieces. Raises BadInput for what is none."""
    from kubernetes.utils.quantity import parse_quantity  # kubernetes takes half a second

    try:
        return Decimal(parse_quantity(text))
    except ValueError:
        raise BadInput(f"{text!r} is no amount, such as 500m or 16Gi") from None


def shown(resource: str, amount: Decimal) -> str:
    """An amount for people: "48 GiB", "2.5"."""
    if any(each in resource for each in _BYTES):
        return f"{amount / 1024**3:.4g} GiB"
    return f"{amount.normalize():f}"
