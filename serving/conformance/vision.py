"""Images in requests."""

import asyncio
import re

from serving import model_cards as doc

from .cases import asked, image_question
from .check import Theme
from .expect import expect
from .needs import real, text_only, tiny, vision
from .pictures import COLOURS, picture
from .server import CHAT, Server, refused, shown

theme = Theme("vision")
check = theme.check

COLOUR = "What color is this image?"
IMAGES = 10
PRIVATE = (
    "http://127.0.0.1:1/a.png",
    "http://localhost/a.png",
    "http://[::1]/a.png",
    "http://[::ffff:127.0.0.1]/a.png",
    "http://2130706433/a.png",
    "http://0.0.0.0/a.png",
    "http://10.0.0.1/a.png",
    "http://192.168.0.1/a.png",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fe80::1]/a.png",
)
_REFUSAL_S = 10


@check(vision)
async def an_image_in_the_request_is_seen(server: Server) -> None:
    """The model sees an image in a data URL."""
    answer = await server.answer("an image")
    expect("blue" in answer.content.lower(), f"not blue: {answer.shown}")


@check(vision)
async def each_of_two_images_is_seen_in_order(server: Server) -> None:
    """Two images keep their order."""
    for first, second in (("red", "blue"), ("green", "red")):
        urls = [picture(COLOURS[name]) for name in (first, second)]
        body = image_question("What are the colours of these images?", *urls, temperature=0)
        text = (await server.chat(body)).content.lower()
        expect(-1 < text.find(first) < text.find(second), f"not {first}, {second}: {text!r}")


@check(vision)
async def an_image_may_come_before_its_question(server: Server) -> None:
    """An image may come before or after its question: both forms are in use."""
    parts = doc.image_message(COLOUR, picture(COLOURS["green"]))["content"]
    body = {"messages": [{"role": "user", "content": parts[::-1]}], "temperature": 0}
    answer = await server.chat(body)
    expect("green" in answer.content.lower(), f"not green: {answer.shown}")


@check(vision)
async def an_image_is_seen_as_it_was_sent(server: Server) -> None:
    """An image that vLLM's field `uuid` says was sent before is seen nevertheless."""
    for colour in ("red", "blue"):
        body = image_question(COLOUR, picture(COLOURS[colour]), temperature=0)
        body["messages"][-1]["content"][-1]["uuid"] = "conformance"
        answer = await server.chat(body)
        expect(colour in answer.content.lower(), f"not {colour}: {answer.shown}")


@check(vision, limit_s=120)
async def ten_images_are_taken(server: Server) -> None:
    """Ten images, the limit of the card's flag, are accepted."""
    answer = await server.chat(image_question(COLOUR, *[picture()] * IMAGES, max_tokens=5))
    expect(answer.completion_tokens, answer.shown)


@check(vision)
async def an_eleventh_image_gets_a_400_with_the_limit(server: Server) -> None:
    """An eleventh image gets a 400; it is not dropped, and the server does not fail."""
    message = await server.refusal(image_question(COLOUR, *[picture()] * (IMAGES + 1)))
    expect(re.search(rf"\b{IMAGES}\b", message), f"the limit is not named: {message}")


@check(text_only)
async def an_image_to_a_text_model_gets_a_clear_400(server: Server) -> None:
    """The error says that the model takes no images."""
    message = (await server.refusal(image_question(COLOUR, picture()))).lower()
    expect("image" in message or "multimodal" in message, f"no word of images: {message}")


@check(real, vision, limit_s=120)
async def the_cards_image_is_fetched(server: Server) -> None:
    """The server fetches the image of the card's URL, which has a query string and redirects."""
    answer = await server.chat(
        image_question(doc.BATTLE_PROMPT, doc.BATTLE_IMAGE_URL, max_tokens=64)
    )
    expect(answer.content, answer.shown)


@check(vision)
async def an_unreachable_image_gets_a_4xx(server: Server) -> None:
    """An image that cannot be fetched gets a 4xx within the check's time, and no 5xx."""
    body = image_question(COLOUR, "https://no-such-host.invalid/a.png")
    response = await server.post(CHAT, body)
    expect(400 <= response.status_code < 500, f"{response.status_code}: {shown(response)}")
    refused(response, response.status_code)


@check(vision, limit_s=120)
async def addresses_of_private_networks_get_a_400(server: Server) -> None:
    """Addresses of private networks are rejected within 10 s: no request reaches the server's own
    network."""
    for url in PRIVATE:
        try:
            async with asyncio.timeout(_REFUSAL_S):
                await server.refusal(image_question(COLOUR, url))
        except TimeoutError:
            expect(False, f"{url}: no answer within {_REFUSAL_S} s")


@check(vision)
async def files_of_the_server_get_a_400(server: Server) -> None:
    """A `file://` URL gets a 400 that contains nothing of the file."""
    message = await server.refusal(image_question(COLOUR, "file:///etc/passwd"))
    expect("root:" not in message, "the message quotes the file")


@check(vision)
async def data_that_is_no_image_gets_a_400(server: Server) -> None:
    """Text labelled as a PNG, and text that is not base64, get a 400."""
    for url in ("data:image/png;base64,aGVsbG8=", "data:image/png;base64,???"):
        await server.refusal(image_question(COLOUR, url))


@check(vision, tiny)
async def a_question_without_its_image_is_answered(server: Server) -> None:
    """A model with a vision encoder answers a question without an image."""
    answer = await server.chat(asked(COLOUR, temperature=0))
    expect(answer.content == "I do not see an image.", answer.shown)
