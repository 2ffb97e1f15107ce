"""Which requests are the same to an engine."""

from typing import Any

import pytest

from serving.poison import Digests

DIGESTS = Digests("secret")
PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:a"}]}],
    "temperature": 0.5,
}


def digest(**fields: Any) -> bytes:
    return DIGESTS.of("m", PATH, BODY | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "alias"},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"user": "u", "metadata": {"a": "b"}, "prompt_cache_key": "k", "store": False},
        {"max_tokens": None},
    ],
)
def test_what_does_not_reach_the_model_makes_no_difference(fields: dict[str, Any]) -> None:
    assert digest(**fields) == digest()


def test_the_order_of_fields_makes_no_difference() -> None:
    assert DIGESTS.of("m", PATH, dict(reversed(BODY.items()))) == digest()


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.6},
        {"max_tokens": 5},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:b"}]}]},
    ],
)
def test_what_reaches_the_model_does(fields: dict[str, Any]) -> None:
    assert digest(**fields) != digest()


def test_model_path_and_secret_make_a_difference() -> None:
    others = [
        DIGESTS.of("n", PATH, BODY),
        DIGESTS.of("m", "/v1/completions", BODY),
        Digests("other").of("m", PATH, BODY),
    ]
    assert len({digest(), *others}) == 4


def test_a_lone_surrogate_has_a_digest() -> None:
    assert digest(user=None, prompt="\ud800") != digest(prompt="\ud801")
