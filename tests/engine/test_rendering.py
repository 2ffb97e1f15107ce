"""Prompts whose images and image tokens do not belong together."""

from typing import Any

import pytest
from vllm.multimodal.inputs import PlaceholderRange

from tests.engine.asking import CHAT, COMPLETIONS, asked
from tests.engine.fake_llm import FakeLlm, control, ids
from tests.engine.pictures import PNG, data_url

IMAGE = control("[IMG]")
END = control("[IMG_END]")
WITH_IMAGE = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "?"},
            {"type": "image_url", "image_url": {"url": data_url(PNG)}},
        ],
    }
]


def renders(engine: FakeLlm, tokens: list[int], *places: PlaceholderRange) -> None:
    """Has the engine render each chat to these tokens, with images in these places."""

    async def render(chats: Any, *_: Any, **__: Any) -> Any:
        prompt: Any = {"type": "multimodal", "prompt_token_ids": tokens}
        return chats, [prompt | {"mm_placeholders": {"image": places}}]

    engine.renderer.render_chat_async = render  # type: ignore[method-assign]


async def test_each_image_has_its_tokens() -> None:
    engine = FakeLlm()
    renders(engine, [1, IMAGE, IMAGE, END, *ids("?")], PlaceholderRange(offset=1, length=2))
    assert (await asked(engine, CHAT, messages=WITH_IMAGE)).status_code == 200


@pytest.mark.parametrize("places", [[], [PlaceholderRange(offset=1, length=1)]])
async def test_tokens_without_an_image_are_the_engines_fault(
    places: list[PlaceholderRange],
) -> None:
    engine = FakeLlm()
    renders(engine, [1, IMAGE, IMAGE, END, *ids("?")], *places)
    response = await asked(engine, CHAT, messages=WITH_IMAGE)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "request_failed")
    assert engine.calls == []


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"messages": WITH_IMAGE, "truncate_prompt_tokens": 5}, 400, "truncate_prompt_tokens"),
        ({"messages": WITH_IMAGE}, 500, None),
        ({"truncate_prompt_tokens": 5}, 500, None),
    ],
)
async def test_images_that_are_cut_off_are_the_requests_fault(
    fields: dict[str, Any], status: int, param: str | None
) -> None:
    engine = FakeLlm()
    engine.renderer.error = RuntimeError("Expected there to be 1 prompt placeholders")
    response = await asked(engine, CHAT, **fields)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize("prompt", [[1, IMAGE], [[1], [1, IMAGE, END]]])
async def test_a_completion_has_no_image_tokens(prompt: Any) -> None:
    engine = FakeLlm()
    response = await asked(engine, COMPLETIONS, prompt=prompt)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt")
    assert engine.calls == []
    assert (await asked(engine, COMPLETIONS, prompt="[IMG]")).status_code == 200
