"""Images by URL, as a client of the whole service gets them."""

import base64
import io
from typing import Any

import openai
import pytest
from PIL import Image

from serving import model_cards
from tests.e2e.images import solid
from tests.e2e.service import MODEL


def ask(client: openai.OpenAI, *urls: str) -> str:
    message = model_cards.image_message("What color is this image?", *urls)
    answer = client.chat.completions.create(model=MODEL, messages=[message], temperature=0)  # type: ignore[list-item]
    return answer.choices[0].message.content or ""


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "is not an http, https or data URL"),
        ("http://127.0.0.1/a.png", "no public address"),
        ("http://169.254.169.254/latest/meta-data/", "no public address"),
        ("http://[::ffff:10.0.0.1]/a.png", "no public address"),
        ("http://localhost/a.png", "no public address"),
        ("http://images.invalid/a.png", "no public address"),
        ("http://images.invalid:8080/a.png", "port"),
        ("data:image/png;base64,@@@@", "base64 is malformed"),
        ("data:image/png,hello", "must have the form"),
        ("data:image/png;base64,aGVsbG8=", "is not a PNG"),
    ],
)
def test_an_image_that_is_not_taken_is_a_400_with_the_reason(
    client: openai.OpenAI, url: str, reason: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=reason):
        ask(client, solid("red"), url)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_truncation_that_cuts_images_off_is_refused(client: openai.OpenAI, side: str) -> None:
    message = model_cards.image_message("Which?", solid("red"), solid("red"))
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model=MODEL,
            messages=[message],  # type: ignore[list-item]
            extra_body={"truncate_prompt_tokens": 7, "truncation_side": side},
        )
    assert refused.value.param == "truncate_prompt_tokens"


def test_a_photo_that_was_taken_upright(client: openai.OpenAI) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    buffer = io.BytesIO()
    Image.new("RGB", (280, 56), "red").save(buffer, "JPEG", exif=exif)
    url = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    assert "red" in ask(client, url)


@pytest.mark.parametrize("form", [{}, {"response_format": {"type": "json_object"}}])
def test_an_image_of_a_refused_request_is_read_from_the_next(
    client: openai.OpenAI, form: dict[str, Any]
) -> None:
    """vLLM's API process keeps the image of a request that its engine never gets."""
    message = model_cards.image_message("What color is this image?", solid("purple"))
    options: Any = {"model": MODEL, "messages": [message], "max_tokens": 8, **form}
    for _ in range(4):  # each replica has some
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(**options, logit_bias={"99999999": 1})
    for _ in range(4):
        assert client.chat.completions.create(**options).choices[0].message.content
