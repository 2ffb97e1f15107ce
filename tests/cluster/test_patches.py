"""Patches, as clients send them."""

from typing import Any

import pytest

from tests.cluster.errors import ApiError
from tests.cluster.patches import json_patch, merge, strategic
from tests.cluster.schemas import built_in_kinds

POD = next(kind.schema for kind in built_in_kinds() if kind.name == "Pod")


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **spec}}


def test_merge_replaces_lists_and_drops_nulls() -> None:
    value = {"a": {"b": 1, "c": 2}, "list": [1, 2]}
    assert merge(value, {"a": {"b": None, "d": 3}, "list": [3]}) == {
        "a": {"c": 2, "d": 3},
        "list": [3],
    }


def test_json_patch() -> None:
    value = {"a": {"x/y": 1}, "list": [1, 3]}
    assert json_patch(
        value,
        [
            {"op": "test", "path": "/a/x~1y", "value": 1},
            {"op": "remove", "path": "/a/x~1y"},
            {"op": "add", "path": "/list/1", "value": 2},
            {"op": "add", "path": "/list/-", "value": 4},
            {"op": "replace", "path": "/list/0", "value": 0},
        ],
    ) == {"a": {}, "list": [0, 2, 3, 4]}
    assert value == {"a": {"x/y": 1}, "list": [1, 3]}
    for path, op in (("/b/c", "add"), ("/list/9", "replace"), ("/a/z", "remove")):
        with pytest.raises(ApiError, match="does not apply"):
            json_patch(value, [{"op": op, "path": path, "value": 1}])


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        pytest.param(
            pod({"name": "a", "image": "1"}, {"name": "b", "image": "1"}),
            pod({"name": "b", "image": "2"}, {"name": "c", "image": "1"}),
            pod(
                {"name": "a", "image": "1"},
                {"name": "b", "image": "2"},
                {"name": "c", "image": "1"},
            ),
            id="by the key of the items",
        ),
        pytest.param(
            pod({"name": "a"}, {"name": "b"}),
            pod({"name": "a", "$patch": "delete"}),
            pod({"name": "b"}),
            id="an item deleted",
        ),
        pytest.param(
            pod({"name": "a"}, {"name": "b"}),
            {
                "spec": {
                    "containers": [{"name": "c"}],
                    "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
                }
            },
            pod({"name": "c"}, {"name": "b"}, {"name": "a"}),
            id="in an order",
        ),
        pytest.param(
            pod({"name": "a", "command": ["x", "y"]}),
            pod({"name": "a", "command": ["z"]}),
            pod({"name": "a", "command": ["z"]}),
            id="an atomic list",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}},
            {"metadata": {"finalizers": ["b", "c"]}},
            id="a list of words",
        ),
        pytest.param(
            pod(nodeSelector={"a": "1"}, hostNetwork=True),
            {"spec": {"nodeSelector": {"$patch": "replace", "b": "1"}, "hostNetwork": None}},
            pod(nodeSelector={"b": "1"}),
            id="a map replaced and a field dropped",
        ),
        pytest.param(
            pod(volumes=[{"name": "v", "emptyDir": {}}]),
            pod(
                volumes=[
                    {"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}
                ]
            ),
            pod(volumes=[{"name": "v", "secret": {"secretName": "s"}}]),
            id="one of several, another before",
        ),
    ],
)
def test_strategic_merge(before: Any, patch: Any, after: Any) -> None:
    assert strategic(POD, before, patch) == after
