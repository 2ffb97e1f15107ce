"""Responses that are stored, continued, retrieved and deleted through a router."""

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response
from openai.types.responses.response_item_list import ResponseItemList

from serving.config import ResponsesConfig
from serving.tenants import Tenant
from tests.router.telemetry.test_metrics import scrape
from tests.router.test_app import error_of
from tests.support.keys import key_record, keys_of
from tests.support.live_router import MODEL, LiveRouter, StartRouter
from tests.support.response_engine import ResponseEngine, SteeredResponses, event

PATH = "/v1/responses"


async def create(router: LiveRouter, **fields: Any) -> Any:
    body = {"model": MODEL, "input": "Hi"} | fields
    headers = fields.pop("headers", {})
    body.pop("headers", None)
    response = await router.http.post(PATH, json=body, headers=headers)
    if response.status_code == 200 and body.get("stream"):
        last = response.text.strip().split("\n\n")[-1].split("\ndata: ")[1]
        return json.loads(last)["response"]
    return response


async def created(router: LiveRouter, **fields: Any) -> dict[str, Any]:
    response = await create(router, **fields)
    if isinstance(response, httpx.Response):
        assert response.status_code == 200, response.text
        assert "x-request-warnings" not in response.headers
        response = response.json()
    Response.model_validate(response, strict=True)
    return dict(response)


def sent(router: LiveRouter, engine: int = 0) -> Any:
    """Returns the body of the last request of an engine."""
    return json.loads(router.engines[engine].received[-1].body)


def texts(items: list[dict[str, Any]]) -> list[Any]:
    return [
        item["content"] if isinstance(item["content"], str) else item["content"][0]["text"]
        for item in items
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_is_stored_and_retrieved(router: LiveRouter, stream: bool) -> None:
    response = await created(router, stream=stream)
    found = await router.http.get(f"{PATH}/{response['id']}")
    assert found.status_code == 200
    assert found.headers["content-type"] == "application/json"
    assert found.json() == response
    assert (await router.openai.responses.retrieve(response["id"])).output_text == "Hello!"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_is_continued(router: LiveRouter, stream: bool) -> None:
    first = await created(router, input="One", instructions="Be brief.", stream=stream)
    second = await created(router, input="Two", previous_response_id=first["id"], stream=stream)
    assert second["previous_response_id"] == first["id"]
    assert texts(sent(router)["input"]) == ["One", "Hello!", "Two"]
    assert "instructions" not in sent(router)
    more = [{"role": "user", "content": [{"type": "input_text", "text": "Three"}]}]
    await created(router, input=more, previous_response_id=second["id"], stream=stream)
    assert texts(sent(router)["input"]) == ["One", "Hello!", "Two", "Hello!", "Three"]


async def test_what_continues_a_response_may_name_another_limit_and_no_input(
    router: LiveRouter,
) -> None:
    first = await created(router, input="One")
    response = await router.http.post(
        PATH, json={"model": MODEL, "previous_response_id": first["id"], "max_output_tokens": 3}
    )
    assert response.status_code == 200
    assert texts(sent(router)["input"]) == ["One", "Hello!"]


async def test_a_call_and_its_result_are_continued_with_the_clients_ids(
    router: LiveRouter,
) -> None:
    call = {"type": "function_call", "call_id": "call_1-2", "name": "f", "arguments": "{}"}
    items = [{"role": "user", "content": "Hi"}, call]
    first = await created(
        router,
        input=[*items, {"type": "function_call_output", "call_id": "call_1-2", "output": "1"}],
    )
    listed = (await router.http.get(f"{PATH}/{first['id']}/input_items?order=asc")).json()["data"]
    assert [item.get("call_id") for item in listed] == [None, "call_1-2", "call_1-2"]
    await created(router, previous_response_id=first["id"])
    ids = [item["call_id"] for item in sent(router)["input"] if "call_id" in item]
    assert ids == ["call_1-2"] * 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_that_must_not_be_stored_is_not(
    router: LiveRouter, stream: bool, stored: ResponsesConfig
) -> None:
    response = await created(router, store=False, stream=stream)
    error_of(await router.http.get(f"{PATH}/{response['id']}"), 404)
    error = error_of(await create(router, previous_response_id=response["id"]), 404)
    assert (error["code"], error["param"]) == (
        "previous_response_not_found",
        "previous_response_id",
    )
    assert (await scrape(router))["stored_responses_total"] == 0


async def test_a_stored_response_is_not_streamed(router: LiveRouter) -> None:
    url = f"{PATH}/{(await created(router, stream=True))['id']}"
    for asked in ("true", "True", "1"):
        error = error_of(await router.http.get(url, params={"stream": asked}), 400)
        assert error["param"] == "stream"
        assert "has no events" in error["message"]
    assert (await router.http.get(url, params={"stream": "false"})).status_code == 200
    with pytest.raises(openai.BadRequestError):
        await router.openai.responses.retrieve(url.split("/")[-1], stream=True)


async def test_a_response_that_is_not_to_be_stored_may_continue_one_that_is(
    router: LiveRouter,
) -> None:
    first = await created(router, input="One")
    await created(router, store=False, previous_response_id=first["id"])
    assert texts(sent(router)["input"]) == ["One", "Hello!", "Hi"]


async def test_a_deleted_response_is_gone(router: LiveRouter) -> None:
    first = await created(router)
    second = await created(router, previous_response_id=first["id"])
    deleted = await router.http.delete(f"{PATH}/{first['id']}")
    assert deleted.json() == {"id": first["id"], "object": "response", "deleted": True}
    error_of(await router.http.delete(f"{PATH}/{first['id']}"), 404)
    with pytest.raises(openai.NotFoundError):
        await router.openai.responses.retrieve(first["id"])
    assert (await router.http.get(f"{PATH}/{second['id']}")).status_code == 200
    error = error_of(await create(router, previous_response_id=second["id"]), 404)
    assert error["code"] == "previous_response_not_found"


async def test_input_items_are_listed(router: LiveRouter) -> None:
    answer = {"role": "assistant", "content": "Yes?"}
    items = [{"role": "user", "content": str(n)} for n in range(3)]
    response = await created(router, input=[*items, answer, {"id": "msg_own", **items[0]}])
    url = f"{PATH}/{response['id']}/input_items"
    listed = (await router.http.get(url)).json()
    assert texts(listed["data"]) == ["0", "Yes?", "2", "1", "0"]
    assert listed["data"][0]["id"] == listed["first_id"] == "msg_own"
    assert listed["last_id"] == listed["data"][-1]["id"] and not listed["has_more"]
    ResponseItemList.model_validate(listed, strict=True)
    page = (await router.http.get(url, params={"order": "asc", "limit": 2})).json()
    assert (texts(page["data"]), page["has_more"]) == (["0", "1"], True)
    behind = {"order": "asc", "limit": 2, "after": page["last_id"]}
    assert texts((await router.http.get(url, params=behind)).json()["data"]) == ["2", "Yes?"]
    with_sdk = [item async for item in router.openai.responses.input_items.list(response["id"])]
    assert [item.id for item in with_sdk] == [item["id"] for item in listed["data"]]
    for wrong in ({"limit": "0"}, {"limit": "101"}, {"order": "up"}, {"after": "msg_no"}):
        error = error_of(await router.http.get(url, params=wrong), 400)
        assert error["param"] in wrong


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"store": "false"}, "store"),
        ({"background": 1}, "background"),
        ({"previous_response_id": 5}, "previous_response_id"),
        ({"background": True, "store": False}, "background"),
        ({"background": True, "conversation": "conv_1"}, "conversation"),
        ({"background": True, "max_output_tokens": 0}, "max_output_tokens"),
    ],
)
async def test_what_cannot_be_meant_is_a_400(
    router: LiveRouter, fields: dict[str, Any], param: str
) -> None:
    assert error_of(await create(router, **fields), 400)["param"] == param
    assert not router.engines[0].received


async def test_a_body_that_is_no_object_is_a_400(router: LiveRouter) -> None:
    for body in ("[]", "null", '"Hi"', "{"):
        error_of(await router.http.post(PATH, content=body), 400)


async def test_an_id_that_nobody_could_have_is_unknown(router: LiveRouter) -> None:
    for unknown in ("", "resp_é", "\ud800", "x" * 5000):
        body = json.dumps({"model": MODEL, "input": "Hi", "previous_response_id": unknown})
        response = await router.http.post(PATH, content=body.encode())
        assert error_of(response, 404)["code"] == "previous_response_not_found"


async def test_incomplete_responses_are_continued(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    class CutOff(ResponseEngine):
        status = "incomplete"

    router = await start_router(CutOff, responses=stored)
    for stream in (False, True):
        first = await created(router, stream=stream)
        await created(router, previous_response_id=first["id"])
        assert texts(sent(router)["input"]) == ["Hi", "Hello!", "Hi"]


class FailsInTheEnd(ResponseEngine):
    status = "failed"


async def test_a_stream_that_failed_is_not_stored(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(FailsInTheEnd, responses=stored)
    response = await created(router, stream=True)
    error_of(await router.http.get(f"{PATH}/{response['id']}"), 404)
    assert (await scrape(router))["stored_responses_total"] == 0


async def test_a_stream_that_breaks_after_its_last_event_is_not_stored(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(SteeredResponses, responses=stored)
    body = {"model": MODEL, "input": "Hi", "stream": True}
    headers = {"x-request-id": "r1"}
    request = router.http.build_request("POST", PATH, json=body, headers=headers)
    answering = asyncio.create_task(router.http.send(request, stream=True))
    engine = await router.asked()
    assert isinstance(engine, SteeredResponses)
    final = event("response.completed", response=engine.response(body, "completed"))
    engine.begin_stream(final)
    async with aclosing(await answering) as response:
        parts = response.aiter_raw()
        assert await anext(parts) == final
        engine.reset()
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(parts)
            await anext(parts)
    error_of(await router.http.get(f"{PATH}/resp_r1"), 404)
    assert (await scrape(router))["stored_responses_total"] == 0


async def test_texts_that_look_like_the_last_event_are_texts(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    class Quotes(ResponseEngine):
        text = 'event: response.completed\ndata: {"response":{}}\n\n' * 200

    router = await start_router(Quotes, responses=stored)
    response = await created(router, stream=True)
    assert (await router.http.get(f"{PATH}/{response['id']}")).json() == response


async def test_tenants_see_only_their_own(
    start_router: StartRouter, stored: ResponsesConfig, tmp_path: Path
) -> None:
    keys = keys_of(tmp_path, *(key_record(f"key-{name}", name) for name in "ab"))
    tenants = [Tenant(name=name) for name in ("a", "b")]
    router = await start_router(
        ResponseEngine, responses=stored, tenants=tenants, authentication=keys
    )
    of_a, of_b = ({"authorization": f"Bearer key-{name}"} for name in "ab")
    response = await created(router, headers=of_a)
    url = f"{PATH}/{response['id']}"
    error_of(await router.http.get(url), 401)
    for method, path in (
        ("GET", url),
        ("DELETE", url),
        ("GET", f"{url}/input_items"),
        ("POST", f"{url}/cancel"),
    ):
        error_of(await router.http.request(method, path, headers=of_b), 404)
    error = error_of(await create(router, headers=of_b, previous_response_id=response["id"]), 404)
    assert error["code"] == "previous_response_not_found"
    assert (await router.http.get(url, headers=of_a)).status_code == 200
    # The ids of another tenant can be taken, without replacing its responses.
    await created(router, headers=of_b | {"x-request-id": response["id"].removeprefix("resp_")})
    assert (await router.http.get(url, headers=of_a)).json() == response


async def test_a_full_disk_fails_no_request(
    start_router: StartRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    router = await start_router(
        ResponseEngine, responses=ResponsesConfig(folder=str(tmp_path / "file"))
    )
    for _ in range(2):
        response = await create(router, input="a secret")
        assert response.status_code == 200
        assert "could not be stored" in response.headers["x-request-warnings"]
    await created(router, stream=True)
    logged = [record.getMessage() for record in caplog.records if "stored" in record.getMessage()]
    assert len(logged) == 1 and "secret" not in logged[0]
    assert (await scrape(router))['stored_responses_total{result="failed"}'] == 3
    for answer in (
        await router.http.get(f"{PATH}/resp_1"),
        await create(router, previous_response_id="resp_1"),
        await create(router, background=True),
    ):
        assert error_of(answer, 503)["code"] == "response_store_failed"
        assert answer.headers["retry-after"]


@pytest.mark.parametrize("chars", [2000, 900])
async def test_a_response_that_is_too_large_is_answered_with_a_warning(
    start_router: StartRouter, tmp_path: Path, chars: int
) -> None:
    config = ResponsesConfig(folder=str(tmp_path), max_bytes=1000)
    router = await start_router(ResponseEngine, responses=config)
    response = await create(router, input="x" * chars, chat_template_kwargs={})
    assert response.status_code == 200
    assert "too large" in response.headers["x-request-warnings"]
    error_of(await router.http.get(f"{PATH}/{response.json()['id']}"), 404)
    assert (await scrape(router))['stored_responses_total{result="too_large"}'] == 1


async def test_a_history_beyond_the_limits_is_refused(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(ResponseEngine, responses=stored)
    first = await created(router, input="x" * 150_000)
    error = error_of(
        await create(router, input="x" * 60_000, previous_response_id=first["id"]), 400
    )
    assert error["param"] == "previous_response_id"
    many = [{"role": "user", "content": "x"}] * 999
    first = await created(router, input=many)
    assert error_of(await create(router, previous_response_id=first["id"]), 400)["param"] == (
        "previous_response_id"
    )


async def test_where_nothing_is_stored_it_is_as_if_the_api_had_no_state(
    start_router: StartRouter, tmp_path: Path
) -> None:
    config = ResponsesConfig(folder=str(tmp_path / "none"), max_bytes=0)
    router = await start_router(ResponseEngine, responses=config)
    response = await created(router)
    assert error_of(await router.http.get(f"{PATH}/{response['id']}"), 404)["code"] == "not_found"
    for field, value in (("previous_response_id", response["id"]), ("background", True)):
        error = error_of(await create(router, **{field: value}), 400)
        assert (error["param"], error["code"]) == (field, "unsupported_parameter")
    assert not (tmp_path / "none").exists()


async def test_scripts_of_web_pages_may_delete(router: LiveRouter) -> None:
    asked = {"origin": "https://a.example", "access-control-request-method": "DELETE"}
    assert (await router.http.options(f"{PATH}/resp_1", headers=asked)).status_code == 200


async def test_a_wrong_method_names_the_right_ones(router: LiveRouter) -> None:
    error_of(await router.http.put(f"{PATH}/resp_1"), 405)
    cancel = await router.http.get(f"{PATH}/resp_1/cancel")
    assert error_of(cancel, 405) and cancel.headers["allow"] == "POST"


async def test_the_description_has_the_endpoints(router: LiveRouter) -> None:
    paths = (await router.http.get("/openapi.json")).json()["paths"]
    assert set(paths[f"{PATH}/{{response_id}}"]) == {"get", "delete"}
    assert set(paths[f"{PATH}/{{response_id}}/input_items"]) == {"get"}
    assert set(paths[f"{PATH}/{{response_id}}/cancel"]) == {"post"}
    schema = paths[PATH]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"store", "previous_response_id", "background"} <= set(schema["properties"])


async def test_a_count_has_the_history_and_stores_nothing(router: LiveRouter) -> None:
    first = await created(router, input="One")
    body = {"model": MODEL, "input": "Two", "previous_response_id": first["id"], "background": True}
    counted = await router.http.post(f"{PATH}/input_tokens", json=body)
    assert counted.status_code == 200
    assert router.engines[0].received[-1].target == b"/v1/responses/input_tokens"
    assert texts(sent(router)["input"]) == ["One", "Hello!", "Two"]
    not_stored = await router.http.get(f"{PATH}/{counted.json()['id']}")
    assert not_stored.status_code == 404
    error = error_of(
        await router.http.post(
            f"{PATH}/input_tokens",
            json={"model": MODEL, "input": "Two", "previous_response_id": "resp_gone"},
        ),
        404,
    )
    assert error["code"] == "previous_response_not_found"


async def test_responses_are_not_compacted(router: LiveRouter) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        await router.openai.responses.compact(model=MODEL, input="Hi")
    assert "compact" in raised.value.message
