import pytest

from tests.dashboards.promql import Selector, selectors, with_values


def test_selectors_are_found_whatever_stands_around_them() -> None:
    query = """
        # a comment with a_name
        sum by (model, le) (rate(a_bucket{le="2.5",x=~"b}|c, d"}[5m] offset 1h)) > bool 1e3
        unless on (model) group_left () max without (q) (b:c) or vector(0) * count(up) by (z)
    """
    assert list(selectors(query)) == [
        Selector("a_bucket", (("le", "=", "2.5"), ("x", "=~", "b}|c, d"))),
        Selector("b:c", ()),
        Selector("up", ()),
    ]


def test_what_is_no_promql_is_refused() -> None:
    with pytest.raises(ValueError, match="not PromQL at"):
        list(selectors("up & down"))
    with pytest.raises(KeyError):
        with_values("up[$nobody]")


@pytest.mark.parametrize(
    ("operator", "value", "found"),
    [
        ("=", "ab", True),
        ("=", "a", False),
        ("!=", "a", True),
        ("!=", "ab", False),
        ("=~", "a.*", True),
        ("=~", "a", False),
        ("!~", "a", True),
        ("!~", "a.", False),
    ],
)
def test_matchers_hold_of_whole_values(operator: str, value: str, found: bool) -> None:
    selector = Selector("m", (("x", operator, value),))
    assert selector.matches({"x": "ab"}) is found


def test_an_absent_label_is_empty() -> None:
    assert Selector("m", (("x", "=~", ".*"),)).matches({})
    assert not Selector("m", (("x", "=~", ".+"),)).matches({})
