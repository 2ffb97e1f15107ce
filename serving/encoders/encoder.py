"""What the encoder of each API offers."""

from collections.abc import Collection
from typing import Protocol

from serving.answers.events import Answer, Event, PromptTokens, Step


class Encoder(Protocol):
    """Writes the answer to one request. A streamed answer and a whole one say the same.

    An encoder is created with the API's own view of the request, the answer's id, its time of
    creation, the model's name, and a `Usage` whose counts the caller keeps up to date.
    """

    @property
    def told_by(self) -> Collection[type[Event]]:
        """The answer's events whose text the API's own events have unchanged."""

    def prompt(self, prompt: PromptTokens) -> None:
        """Takes a prompt, if the API tells of it, before any step of its choices is written."""

    def begin(self) -> bytes:
        """Returns the stream's first events, which need no token yet."""

    def step(self, index: int, step: Step) -> bytes:
        """Returns the events for the next tokens of the choice `index`; may be empty."""

    def finish(self) -> bytes:
        """Returns the stream's last events, after every choice has ended."""

    def error(self, message: str, status: int) -> bytes:
        """Returns the event that ends a stream with an error of that HTTP status."""

    def whole(self, answers: list[Answer]) -> bytes:
        """Returns the body of an answer that is not streamed; one `Answer` for each choice."""
