import datetime
from typing import Any

import pytest

from serving.mistral import InvalidRequest, normalise
from tests.mistral.tokenizers import rules

TODAY = datetime.date(2026, 3, 1)
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
TEXT = {"type": "text", "text": "?"}


def chat(*images: int) -> dict[str, Any]:
    """Returns a conversation with that many images in each of its messages."""
    return {"messages": [{"role": "user", "content": [TEXT, *[IMAGE] * n]} for n in images]}


@pytest.mark.parametrize("images", [(10,), (5, 5), (0,)])
def test_as_many_as_the_model_takes(images: tuple[int, ...]) -> None:
    assert not normalise("/v1/chat/completions", chat(*images), rules(), TODAY).changed


@pytest.mark.parametrize("images", [(11,), (5, 6)])
def test_one_too_many_in_all_turns_together(images: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match=r"At most 10 images .* has 11") as raised:
        normalise("/v1/chat/completions", chat(*images), rules(), TODAY)
    assert raised.value.param == "messages"


def test_a_text_model_says_that_it_is_one() -> None:
    with pytest.raises(InvalidRequest, match="'mistral-test/small' is a text model"):
        normalise("/v1/chat/completions", chat(1), rules(image_limit=0), TODAY)
    assert not normalise("/v1/chat/completions", chat(0), rules(image_limit=0), TODAY).changed


def test_anthropics_images_also_inside_tool_results() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}}
    result = {"type": "tool_result", "tool_use_id": "abcdefghi", "content": [image, image]}
    body = {"messages": [{"role": "user", "content": [image, result]}]}
    with pytest.raises(InvalidRequest, match="has 3"):
        normalise("/v1/messages", body, rules(image_limit=2), TODAY)
    assert not normalise("/v1/messages", body, rules(image_limit=3), TODAY).changed
