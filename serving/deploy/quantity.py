"""Amounts as Kubernetes writes them: 500m, 16Gi."""

from decimal import Decimal

_UNITS = {"": Decimal(1), "m": Decimal("0.001"), "n": Decimal("1e-9"), "u": Decimal("1e-6")} | {
    unit: Decimal(base) ** power
    for base, units in (
        (1000, ("k", "M", "G", "T", "P", "E")),
        (1024, ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")),
    )
    for power, unit in enumerate(units, start=1)
}
_BYTES = ("memory", "storage")


def quantity(text: object) -> Decimal:
    """In its base unit: CPUs, bytes, pieces. Raises ValueError for what is none."""
    written = str(text).strip()
    digits = written.rstrip("mnukKMGTPEi")
    try:
        return Decimal(digits) * _UNITS[written[len(digits) :]]
    except (ArithmeticError, KeyError):
        raise ValueError(f"{written!r} is no amount, such as 500m or 16Gi") from None


def shown(resource: str, amount: Decimal) -> str:
    """For people: "48 GiB", "2.5"."""
    if any(each in resource for each in _BYTES):
        return f"{amount / 1024**3:.4g} GiB"
    return f"{amount.normalize():f}"
