"""The input of a request that continues a response."""

import json
from typing import Any

import pytest

from serving.router.http.errors import ApiError
from serving.router.responses.expansion import MAX_ITEMS, expand, history
from serving.router.responses.items import input_items, listed, page, with_ids
from serving.router.responses.store import StoredResponse

LARGE = 10**6


def stored(
    response_id: str,
    previous_id: str | None = None,
    items: list[Any] | None = None,
    output: list[Any] | None = None,
    status: str = "completed",
) -> StoredResponse:
    items = [{"in": response_id}] if items is None else items
    output = [{"out": response_id}] if output is None else output
    body = {"id": response_id, "output": output, "usage": None}
    return StoredResponse(
        "a", response_id, status, json.dumps(items).encode(), json.dumps(body).encode(), previous_id
    )


def of(*responses: StoredResponse, max_bytes: int = LARGE) -> list[Any]:
    """The history of the last of these responses."""
    by_id = {response.response_id: response for response in responses}
    return history(by_id.get, responses[-1].response_id, 0, max_bytes)


def test_a_history_is_input_and_output_of_each_response_the_oldest_first() -> None:
    items = of(stored("1"), stored("2", "1", status="incomplete"), stored("3", "2"))
    assert items == [{way: n} for n in "123" for way in ("in", "out")]


def test_two_may_continue_the_same_response() -> None:
    first, left, right = stored("1"), stored("2", "1"), stored("3", "1")
    assert of(first, right, left) == [{"in": "1"}, {"out": "1"}, {"in": "2"}, {"out": "2"}]


def test_an_unknown_response_and_a_missing_link_are_told_apart() -> None:
    with pytest.raises(ApiError, match=r"^Previous response with id '1' not found"):
        history(lambda _: None, "1", 0, LARGE)
    with pytest.raises(ApiError, match="A response that '2' continues"):
        of(stored("2", "1"))
    with pytest.raises(ApiError, match="A response that '1' continues"):
        of(stored("1", "1"))


@pytest.mark.parametrize("status", ["queued", "in_progress", "failed", "cancelled"])
def test_what_has_not_ended_well_has_no_history(status: str) -> None:
    with pytest.raises(ApiError, match=f"is {status}: only completed"):
        of(stored("1", status=status))
    with pytest.raises(ApiError, match=f"is {status}: only completed"):
        of(stored("1", status=status), stored("2", "1"))


def test_a_history_has_limits() -> None:
    full = stored("1", items=[{}] * (MAX_ITEMS - 1))
    assert len(of(full)) == MAX_ITEMS
    with pytest.raises(ApiError, match=r"^The input with the history"):
        of(full, stored("2", "1"))
    one = stored("1", items=[{"content": "x" * 100}], output=[{"content": "y" * 100}])
    assert of(one, max_bytes=250)
    with pytest.raises(ApiError, match=r"^The input with the history"):
        of(one, max_bytes=200)


def test_a_chain_of_any_length_ends_at_the_limit() -> None:
    chain = [stored(str(n), str(n - 1) if n else None, output=[]) for n in range(MAX_ITEMS + 1)]
    assert len(of(*chain[:-1])) == MAX_ITEMS
    with pytest.raises(ApiError, match=r"^The input with the history"):
        of(*chain)


@pytest.mark.parametrize(
    ("given", "after"),
    [
        ({"input": "Hi"}, [{"role": "user", "content": "Hi"}]),
        ({"input": [{"a": 1}, {"b": 2}]}, [{"a": 1}, {"b": 2}]),
        ({"input": None}, []),
        ({}, []),
    ],
)
def test_the_history_stands_before_the_input(given: dict[str, Any], after: list[Any]) -> None:
    body = {"model": "m", **given}
    expand(body, [{"before": True}], LARGE)
    assert body == {"model": "m", "input": [{"before": True}, *after]}


def test_an_input_of_another_type_is_left_to_the_engine() -> None:
    body: dict[str, Any] = {"input": 5}
    expand(body, [{}], LARGE)
    assert body == {"input": 5}


def test_history_and_input_have_a_limit_together() -> None:
    expand({"input": [{}]}, [{}] * (MAX_ITEMS - 1), LARGE)
    with pytest.raises(ApiError, match=r"^The input with the history"):
        expand({"input": "x"}, [{}] * MAX_ITEMS, LARGE)


def test_items_get_ids_unless_they_have_one() -> None:
    given: list[Any] = [
        {"role": "user", "content": "Hi"},
        {"id": "msg_1", "type": "message"},
        {"id": None, "type": "function_call"},
        {"type": "other"},
        "no object",
    ]
    ids = [item["id"] for item in with_ids(given)]
    assert ids[1] == "msg_1" and len(set(ids)) == 4
    assert [id.split("_")[0] for id in ids] == ["msg", "msg", "fc", "item"]
    assert "id" not in given[0], "the request is as it was"
    assert input_items("Hi") == [given[0]]
    assert input_items(5) == []


def test_messages_are_listed_with_parts() -> None:
    user, assistant = (
        listed({"id": "msg_1", "role": role, "content": "Hi"}) for role in ("user", "assistant")
    )
    assert user["content"] == [{"type": "input_text", "text": "Hi"}]
    assert assistant["content"] == [{"type": "output_text", "text": "Hi", "annotations": []}]
    parts = [{"type": "input_text", "text": "Hi"}]
    assert listed({"id": "msg_1", "role": "user", "content": parts})["content"] == parts


def test_an_empty_page() -> None:
    empty = page([], 20, None, True)
    assert empty == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
