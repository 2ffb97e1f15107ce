"""Tools and images in the forms of OpenAI's responses and Anthropic's messages."""

from collections.abc import Iterable
from typing import Any

from .pictures import COLOURS, picture

Json = dict[str, Any]


def flat_tools(tools: Iterable[Json]) -> list[Json]:
    """Tools of a chat as those of `/v1/responses`."""
    return [{"type": "function", **tool["function"]} for tool in tools]


def anthropic_tools(tools: Iterable[Json]) -> list[Json]:
    """Tools of a chat as those of `/v1/messages`."""
    return [
        {
            "name": tool["function"]["name"],
            "description": tool["function"].get("description", ""),
            "input_schema": tool["function"]["parameters"],
        }
        for tool in tools
    ]


def input_image(colour: str) -> Json:
    """An image part of `/v1/responses`."""
    return {"type": "input_image", "detail": "auto", "image_url": picture(COLOURS[colour])}


def input_picture(text: str, *colours: str) -> Json:
    """A user's turn of `/v1/responses` with images before its text."""
    images = [input_image(colour) for colour in colours]
    return {"role": "user", "content": [*images, {"type": "input_text", "text": text}]}


def base64_image(colour: str) -> Json:
    """An image block of `/v1/messages`, whose data are in the request."""
    data = picture(COLOURS[colour]).partition(",")[2]
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def message_picture(text: str, *colours: str) -> Json:
    """A user's turn of `/v1/messages` with images before its text."""
    images = [base64_image(colour) for colour in colours]
    return {"role": "user", "content": [*images, {"type": "text", "text": text}]}
