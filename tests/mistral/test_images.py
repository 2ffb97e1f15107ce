import copy
import datetime
import json
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


ANTHROPICS = {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}}
OPENAIS = {"type": "input_image", "image_url": "https://example.com/cat.png"}
KINDS = ("text", "image_url", "image", "input_image", "tool_result")
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def with_uuid(one: dict[str, Any], uuid: Any) -> dict[str, Any]:
    return one | {"uuid": uuid} if one.get("type") in KINDS else one


@pytest.mark.parametrize(
    ("path", "field", "messages"),
    [
        ("/v1/chat/completions", "messages", [{"role": "user", "content": [TEXT, IMAGE]}]),
        ("/tokenize", "messages", [{"role": "user", "content": [IMAGE, IMAGE]}]),
        (
            "/v1/chat/completions",
            "messages",
            [
                {"role": "system", "content": [TEXT]},
                {"role": "user", "content": "?"},
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "abcdefghi", "content": [IMAGE]},
            ],
        ),
        (
            "/v1/messages",
            "messages",
            [
                {
                    "role": "user",
                    "content": [
                        ANTHROPICS,
                        {
                            "type": "tool_result",
                            "tool_use_id": "abcdefghi",
                            "content": [ANTHROPICS],
                        },
                    ],
                }
            ],
        ),
        (
            "/v1/responses",
            "input",
            [
                {"role": "user", "content": [OPENAIS]},
                {"type": "function_call", "call_id": "abcdefghi", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "abcdefghi", "output": [OPENAIS]},
            ],
        ),
    ],
)
@pytest.mark.parametrize("uuid", ["another tenant's", "", 5, None])
def test_no_part_has_a_key_of_vllms_caches(
    path: str, field: str, messages: list[dict[str, Any]], uuid: Any
) -> None:
    body = {field: json.loads(json.dumps(messages), object_hook=lambda one: with_uuid(one, uuid))}
    done = normalise(path, body, rules(), TODAY)
    assert done.changed and not done.warnings
    assert '"uuid"' not in json.dumps(body)
    plain = {field: copy.deepcopy(messages)}
    normalise(path, plain, rules(), TODAY)
    assert body == plain
