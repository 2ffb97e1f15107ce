"""Who owns which field after applies and updates."""

from typing import Any

import pytest

from tests.cluster.errors import ApiError
from tests.cluster.schemas import built_in_kinds
from tests.cluster.server_side_apply import apply, read_owners, updated

POD = next(kind.schema for kind in built_in_kinds() if kind.name == "Pod")
EMPTY: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}


def pod(*containers: dict[str, Any], **labels: str) -> dict[str, Any]:
    metadata = {"name": "p"} | ({"labels": labels} if labels else {})
    return EMPTY | {"metadata": metadata, "spec": {"containers": list(containers)}}


def after(*applies: tuple[str, dict[str, Any]], force: bool = False) -> dict[str, Any]:
    live = EMPTY
    for manager, applied in applies:
        live = apply(POD, live, applied, manager, force=force)
    return live


def test_two_managers_share_a_container() -> None:
    one = pod({"name": "a", "env": [{"name": "X", "value": "1"}]})
    two = pod({"name": "a", "env": [{"name": "Y", "value": "2"}], "image": "i"})
    both = {
        "name": "a",
        "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
        "image": "i",
    }
    assert after(("one", one), ("two", two))["spec"] == {"containers": [both]}
    # What one takes away goes; what both state stays.
    left = after(("one", one), ("two", two), ("one", pod({"name": "a"})))["spec"]["containers"]
    assert left == [{"name": "a", "env": [{"name": "Y", "value": "2"}], "image": "i"}]


def test_a_container_that_its_only_owner_leaves_out_goes() -> None:
    applied = after(("one", pod({"name": "a"}, {"name": "b"})), ("one", pod({"name": "b"})))
    assert applied["spec"]["containers"] == [{"name": "b"}]


def test_another_managers_value_is_a_conflict_that_force_settles() -> None:
    one, two = ("one", pod({"name": "a", "image": "1"})), ("two", pod({"name": "a", "image": "2"}))
    with pytest.raises(ApiError) as conflict:
        after(one, two)
    assert conflict.value.code == 409
    assert conflict.value.message == (
        'Apply failed with 1 conflict: conflict with "one": .spec.containers[{"name":"a"}].image'
    )
    assert after(one, ("two", pod({"name": "a", "image": "1"})))  # the same value is none
    forced = after(one, two, force=True)
    assert forced["spec"]["containers"] == [{"name": "a", "image": "2"}]
    image = ("f:spec", "f:containers", 'k:{"name":"a"}', "f:image")
    owners = read_owners(forced)
    assert image not in owners["one", "Apply"]
    assert image in owners["two", "Apply"]


def test_an_update_owns_what_it_changes() -> None:
    live = after(("one", pod({"name": "a", "image": "1"}, **{"app": "x"})))
    live["spec"]["containers"][0]["image"] = "2"
    changed = updated(POD, after(("one", pod({"name": "a", "image": "1"}, app="x"))), live, "edit")
    owners = read_owners(changed)
    assert owners["edit", "Update"] == {("f:spec", "f:containers", 'k:{"name":"a"}', "f:image")}
    assert ("f:metadata", "f:labels", "f:app") in owners["one", "Apply"]
    with pytest.raises(ApiError, match='conflict with "edit"'):
        apply(POD, changed, pod({"name": "a", "image": "1"}), "one", force=False)
