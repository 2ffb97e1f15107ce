"""Items of earlier answers that a request only refers to."""

import json
from typing import Any

import pytest

from serving.answers.events import Arguments, CallBegun, CallEnded, Reasoning, Text
from serving.router.http.errors import ApiError
from serving.router.responses.references import (
    has_references,
    resolved,
    response_of,
)
from serving.router.responses.store import StoredResponse
from tests.encoders.response_streams import steps, streamed
from tests.router.responses.test_stored_responses import create, created, sent, texts
from tests.router.test_app import error_of
from tests.support.live_router import LiveRouter

LARGE = 10**6
ITEM = {"id": "msg_a00", "type": "message", "role": "assistant", "content": "Hello"}
USER = {"role": "user", "content": "Hi"}


def get(response_id: str) -> StoredResponse | None:
    if response_id != "resp_a":
        return None
    body = json.dumps({"id": "resp_a", "output": [ITEM]}).encode()
    return StoredResponse("t", "resp_a", "completed", b"[]", body)


def reference(item_id: str = "msg_a00") -> dict[str, Any]:
    return {"type": "item_reference", "id": item_id}


def test_an_item_takes_the_place_of_each_reference_to_it() -> None:
    items = [USER, reference(), {"id": "msg_a00"}, USER]
    assert resolved(get, items, 0, LARGE) == [USER, ITEM, ITEM, USER]


@pytest.mark.parametrize("item_id", ["msg_a01", "msg_b00", "msg", "", "\ud800_a00"])
def test_an_unknown_item(item_id: str) -> None:
    with pytest.raises(ApiError, match=f"the item '{item_id}', which is not found"):
        resolved(get, [USER, reference(item_id)], 0, LARGE)


def test_many_references_to_one_item_are_limited_before_they_take_memory() -> None:
    size = len(json.dumps(ITEM))
    assert len(resolved(get, [reference()] * 3, 0, 3 * size)) == 3
    with pytest.raises(ApiError, match="items that it refers to exceeds"):
        resolved(get, [reference()] * 4, 0, 3 * size)


@pytest.mark.parametrize("items", ["Hi", None, 5, [], [USER], [5], [ITEM], [{"id": 5}]])
def test_no_references(items: Any) -> None:
    assert not has_references(items)


def test_the_ids_of_an_engines_items_lead_to_their_response() -> None:
    begun = (CallBegun("abcdefghi", "f"), Arguments("{}"), CallEnded())
    response = streamed(steps(Reasoning("Hm"), Text("Hello"), *begun))[-1]["response"]
    assert len(response["output"]) == 3
    assert {response_of(item["id"]) for item in response["output"]} == {response["id"]}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_may_refer_to_what_an_answer_contains(
    router: LiveRouter, stream: bool
) -> None:
    first = await created(router, stream=stream)
    (message,) = first["output"]
    second = await created(router, input=[USER, reference(message["id"]), USER], stream=stream)
    assert texts(sent(router)["input"]) == ["Hi", "Hello!", "Hi"]
    listed = await router.http.get(f"/v1/responses/{second['id']}/input_items?order=asc")
    assert [item["role"] for item in listed.json()["data"]] == ["user", "assistant", "user"]
    await created(router, input="More", previous_response_id=second["id"], stream=stream)
    assert len(sent(router)["input"]) == 5


async def test_what_is_not_there_is_named(router: LiveRouter) -> None:
    first = await created(router, store=False)
    unknown = [USER, reference(first["output"][0]["id"]), USER]
    error = error_of(await create(router, input=unknown), 404)
    assert (error["code"], error["param"]) == ("item_not_found", "input")
    assert first["output"][0]["id"] in error["message"]
