"""serving/deploy/quantity.py."""

from decimal import Decimal

import pytest

from serving.deploy.quantity import quantity, shown


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        (8, "8"),
        ("1.5Gi", str(3 * 2**29)),
        ("10k", "10000"),
        ("3E", "3000000000000000000"),
    ],
)
def test_amounts_are_read(text: object, amount: str) -> None:
    assert quantity(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "Gi", "5X", "five"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount"):
        quantity(text)


def test_amounts_for_people() -> None:
    assert shown("requests.memory", quantity("48Gi")) == "48 GiB"
    assert shown("cpu", quantity("2500m")) == "2.5"
    assert shown("pods", quantity("30")) == "30"
