"""The lists of models as clients of Anthropic's and Mistral's APIs read them; OpenAI's are in
`test_app`."""

from datetime import UTC, datetime
from typing import Any

import anthropic
import openai
import pytest
from anthropic.types import ModelInfo

from serving.mistral import ModelRules
from serving.router.replicas.model import Model
from tests.support.engines import Engine
from tests.support.live_router import ALIAS, MAX_MODEL_LEN, MODEL, LiveRouter, StartRouter

NAMES = [f"mistral-test/{letter}" for letter in "abcde"]


def strict(router: LiveRouter) -> anthropic.AsyncAnthropic:
    """Returns a client that raises an exception for an answer of another form than it knows."""
    return anthropic.AsyncAnthropic(
        base_url=router.url, api_key="none", max_retries=0, _strict_response_validation=True
    )


async def ids_of(pages: Any) -> list[str]:
    return [model.id async for model in pages]


async def test_anthropics_client_lists_and_gets_models(start_router: StartRouter) -> None:
    router = await start_router(Engine, models=[Model(MODEL, (ALIAS,)), Model(NAMES[0])])
    async with strict(router) as client:
        page = await client.models.list()
        assert [model.id for model in page.data] == [MODEL, NAMES[0]]
        assert (page.has_more, page.first_id, page.last_id) == (False, MODEL, NAMES[0])
        for name in (MODEL, ALIAS):
            model: ModelInfo = await client.models.retrieve(name)
            assert (model.type, model.id, model.display_name) == ("model", MODEL, MODEL)
            assert model.max_input_tokens == MAX_MODEL_LEN
            assert abs((datetime.now(UTC) - model.created_at).days) < 1


async def test_anthropics_lists_have_pages_in_both_directions(start_router: StartRouter) -> None:
    router = await start_router(Engine, models=[Model(name) for name in NAMES])
    async with strict(router) as client:
        first = await client.models.list(limit=2)
        assert ([model.id for model in first.data], first.has_more) == (NAMES[:2], True)
        assert await ids_of(client.models.list(limit=2)) == NAMES
        assert await ids_of(client.models.list(after_id=NAMES[2])) == NAMES[3:]
        assert await ids_of(client.models.list(after_id=NAMES[-1])) == []
        before = await client.models.list(before_id=NAMES[4], limit=3)
        assert ([model.id for model in before.data], before.has_more) == (NAMES[1:4], True)
        listed = await ids_of(client.models.list(before_id=NAMES[4], limit=3))
        assert listed == [*NAMES[1:4], NAMES[0]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"after_id": "gone"}, "after_id"),
        ({"before_id": "gone"}, "before_id"),
        ({"before_id": MODEL, "after_id": MODEL}, "before_id"),
    ],
)
async def test_a_page_that_there_is_not_is_told_by_its_field(
    router: LiveRouter, query: dict[str, Any], field: str
) -> None:
    async with strict(router) as client:
        with pytest.raises(anthropic.BadRequestError) as raised:
            await client.models.list(**query)
    assert error_of(raised.value)["type"] == "invalid_request_error"
    assert field in error_of(raised.value)["message"]


async def test_what_is_not_there_is_told_in_anthropics_envelope(router: LiveRouter) -> None:
    async with strict(router) as client:
        with pytest.raises(anthropic.NotFoundError) as raised:
            await client.models.retrieve("gpt")
        assert error_of(raised.value)["type"] == "not_found_error"
        assert MODEL in error_of(raised.value)["message"]
        with pytest.raises(anthropic.NotFoundError) as raised:
            await client.get("/v1/nowhere", cast_to=object)
        assert error_of(raised.value)["type"] == "not_found_error"


async def test_openais_clients_get_the_whole_list_in_openais_form(
    start_router: StartRouter,
) -> None:
    router = await start_router(Engine, models=[Model(name) for name in NAMES])
    strict_client = openai.AsyncOpenAI(
        base_url=f"{router.url}/v1", api_key="none", _strict_response_validation=True
    )
    async with strict_client as client:
        assert await ids_of(client.models.list(extra_query={"limit": 2})) == NAMES


@pytest.mark.parametrize(
    ("rules", "vision", "reasoning"),
    [
        (ModelRules(MODEL, "v13", 4096, image_limit=8), True, False),
        (ModelRules(MODEL, "v13", 4096, image_limit=0, thinks=True), False, True),
    ],
)
async def test_clients_of_mistrals_api_learn_what_a_model_can_do(
    start_router: StartRouter, rules: ModelRules, vision: bool, reasoning: bool
) -> None:
    """Checks what Mistral's own clients need to read an entry as a model at all."""
    router = await start_router(Engine, models=[Model(MODEL, rules=rules)])
    (listed,) = (await router.http.get("/v1/models")).json()["data"]
    assert (await router.http.get(f"/v1/models/{MODEL}")).json() == listed
    assert (listed["type"], listed["max_context_length"]) == ("base", MAX_MODEL_LEN)
    can = listed["capabilities"]
    assert can["completion_chat"] and can["function_calling"]
    assert (can["vision"], can["reasoning"], can["fine_tuning"]) == (vision, reasoning, False)


async def test_the_context_of_a_model_without_replicas_is_its_rules(
    start_router: StartRouter,
) -> None:
    idle = Model(NAMES[0], rules=ModelRules(NAMES[0], "v13", 4096, image_limit=0))
    router = await start_router(Engine, models=[Model(MODEL), idle, Model(NAMES[1])])
    listed = (await router.http.get("/v1/models")).json()["data"]
    lengths = [card.get("max_context_length", "none") for card in listed]
    assert lengths == [MAX_MODEL_LEN, 4096, "none"]


def error_of(error: anthropic.APIStatusError) -> dict[str, Any]:
    body: Any = error.body
    assert body["type"] == "error"
    found: dict[str, Any] = body["error"]
    return found
