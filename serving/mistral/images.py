"""Rules for the images in a request."""

from collections.abc import Callable, Iterator

from serving.mistral.draft import Draft, Fields, objects_in
from serving.mistral.rules import InvalidRequest

_TYPES = ("image_url", "input_image", "image")  # chat completions', responses', Anthropic's


def limit(field: str) -> Callable[[Draft], None]:
    """Returns the rule that rejects more images than the model accepts, before an engine fetches
    any."""

    def rule(draft: Draft) -> None:
        images = sum(count(message) for message in draft.objects(field))
        if images and draft.rules.image_limit == 0:
            raise InvalidRequest(
                f"'{draft.rules.model_id}' is a text model and accepts no images.",
                param=field,
                code="images_not_supported",
            )
        if images > draft.rules.image_limit:
            raise InvalidRequest(
                f"At most {draft.rules.image_limit} images may be in one request to "
                f"'{draft.rules.model_id}', those of earlier turns included; this one has "
                f"{images}.",
                param=field,
                code="too_many_images",
            )

    return rule


def drop_uuids(field: str) -> Callable[[Draft], None]:
    """Returns the rule that drops `uuid` from the parts of messages, by which vLLM finds an image
    in its caches in place of the one that was sent: whoever sends another's sees their image."""

    def rule(draft: Draft) -> None:
        for message in draft.objects(field):
            for part in _parts(message):
                if "uuid" in part:
                    del part["uuid"]
                    draft.changed = True

    return rule


def count(message: Fields) -> int:
    """Counts the images in a message's content or in a call's output."""
    return sum(part.get("type") in _TYPES for part in _parts(message))


def _parts(message: Fields) -> Iterator[Fields]:
    """Yields the parts of a message's content or of a call's output; Anthropic's tool results have
    content of their own."""
    content = message.get("content", message.get("output"))
    if type(content) is not list:
        return
    for part in objects_in(content):
        yield part
        if part.get("type") not in _TYPES and "content" in part:
            yield from _parts(part)
