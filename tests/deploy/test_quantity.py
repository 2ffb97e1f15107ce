"""serving/deploy/quantity.py."""

import pytest

from serving.deploy.errors import BadInput
from serving.deploy.quantity import quantity, shown


@pytest.mark.parametrize("text", ["", "Gi", "5X", "five"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is no amount"):
        quantity(text)


def test_amounts_for_people() -> None:
    assert shown("requests.memory", quantity("48Gi")) == "48 GiB"
    assert shown("cpu", quantity("2500m")) == "2.5"
    assert shown("pods", quantity("30")) == "30"
