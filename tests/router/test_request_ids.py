"""The ids of requests, as clients of Anthropic's API read them; `test_app` has OpenAI's."""

from typing import Any

import anthropic
import pytest

from tests.support.engines import Engine
from tests.support.http_server import json_response
from tests.support.live_router import CHAT, IMPATIENT, MODEL, StartRouter

MESSAGES = "/v1/messages"
BODY: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 3,
    "messages": [{"role": "user", "content": "Hi"}],
}
MINE = {"x-request-id": "mine-7"}


class Refuses(Engine):
    def respond(self, request: dict[str, Any]) -> None:
        self.transport.write(json_response({"error": {"message": "no", "code": 400}}, 400))


async def test_each_answer_has_the_header_of_anthropics_api(start_router: StartRouter) -> None:
    router = await start_router(Engine, **IMPATIENT)
    get, post = router.http.get, router.http.post
    answers = [
        await post(MESSAGES, json=BODY, headers=MINE),
        await post(MESSAGES, json=BODY | {"stream": True}, headers=MINE),
        await post(MESSAGES + "/count_tokens", json=BODY, headers=MINE),
        await get("/v1/models", headers=MINE | {"anthropic-version": "2023-06-01"}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    errors = [
        await post(MESSAGES, json=BODY | {"model": "unknown"}, headers=MINE),
        await post(MESSAGES, content=b"{", headers=MINE),
        await get(MESSAGES, headers=MINE),
        await get(MESSAGES + "/batches", headers=MINE),
        await get("/v1/models/gpt", headers=MINE | {"anthropic-version": "2023-06-01"}),
    ]
    router.directory.update(MODEL, [])
    errors.append(await post(MESSAGES, json=BODY, headers=MINE))
    assert [answer.status_code for answer in errors] == [404, 400, 405, 404, 404, 503]
    for answer in (*answers, *errors):
        assert answer.headers.get_list("request-id") == ["mine-7"]
        assert answer.headers.get_list("x-request-id") == ["mine-7"]
    for answer in errors:
        assert answer.json()["request_id"] == "mine-7"


async def test_openais_clients_get_no_second_header(start_router: StartRouter) -> None:
    router = await start_router(Engine)
    for answer in (await router.chat(), await router.http.get("/v1/models")):
        assert "request-id" not in answer.headers
        assert "x-request-id" in answer.headers
    assert "request_id" not in (await router.http.post(CHAT, content=b"{")).json()


async def test_anthropics_client_knows_the_request_that_an_engine_refused(
    start_router: StartRouter,
) -> None:
    router = await start_router(Refuses)
    async with anthropic.AsyncAnthropic(
        base_url=router.url, api_key="none", max_retries=0
    ) as client:
        with pytest.raises(anthropic.APIStatusError) as refused:
            await client.messages.create(**BODY)
    body: Any = refused.value.body
    assert refused.value.request_id == body["request_id"]
    assert len(body["request_id"]) == 32
