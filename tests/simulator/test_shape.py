import pytest

from serving.simulator.shape import Form, Shape


def rates(form: Form) -> list[float]:
    shape = Shape(form, 2.0, 10.0, 600.0)
    return [shape.per_s(at_s) for at_s in (0, 150, 199, 201, 239, 241, 299, 301, 599, 700)]


def test_each_form_has_its_rates() -> None:
    assert set(rates(Form.steady)) == {2.0}
    assert rates(Form.step) == [2, 2, 2, 10, 10, 10, 10, 10, 10, 10]
    assert rates(Form.spike) == [2, 2, 2, 2, 2, 10, 10, 2, 2, 2]
    day = rates(Form.day)
    assert day[0] == day[-1] == 2.0
    assert day[1] == pytest.approx(6.0)
    assert day[6] == pytest.approx(10.0, abs=0.01)


def test_the_highest_rate_is_that_of_the_form() -> None:
    assert Shape(Form.spike, 2.0, 10.0, 60.0).most_per_s == 10.0
    assert Shape(Form.step, 10.0, 2.0, 60.0).most_per_s == 10.0
    assert Shape(Form.steady, 2.0, 10.0, 60.0).most_per_s == 2.0
