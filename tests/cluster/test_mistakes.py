"""Every seeded mistake in k8s/ is found, by the check that is there for it."""

import copy

import pytest

from tests.cluster.mistakes import CHECKS, MISTAKES, Check, Mistake, slug
from tests.k8s.manifests import base, parse


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.__module__}.{check.__name__}")
def test_nothing_is_found_without_a_mistake(check: Check) -> None:
    assert check(copy.deepcopy(base())) == []


@pytest.mark.parametrize("mistake", MISTAKES, ids=slug)
def test_the_mistake_is_found(mistake: Mistake) -> None:
    objects = copy.deepcopy(base())
    mistake.make(objects)
    assert objects != base()
    found = mistake.check(objects)
    assert any(mistake.words in problem for problem in found), found


def test_a_key_that_stands_twice_is_found() -> None:
    """A mistake of the text, of which objects show nothing."""
    with pytest.raises(Exception, match="stands twice: kind"):
        parse("kind: Service\nkind: ConfigMap\n")
