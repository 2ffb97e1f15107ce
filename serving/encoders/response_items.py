"""The output items of OpenAI's Responses API, and the events that stream each."""

from collections.abc import Sequence
from typing import Any, Literal

from serving.answers.events import TokenLogprob
from serving.encoders.custom_input import CustomInput
from serving.encoders.sse import to_json
from serving.requests.response_tools import ClientTool

Status = Literal["completed", "incomplete"]
"""How an item or a whole response ends."""


class Events:
    """Numbers the events of a stream."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def write(self, name: str, fields: bytes) -> bytes:
        """Returns an event; `fields` is the content of a JSON object."""
        return self.prepared(head(name), b"," + fields + b"}\n\n")

    def prepared(self, head: bytes, tail: bytes) -> bytes:
        number = self.number
        self.number = number + 1
        return b"%b%d%b" % (head, number, tail)


def head(name: str) -> bytes:
    """Returns the bytes of an event before its sequence number."""
    return f'event: {name}\ndata: {{"type":"{name}","sequence_number":'.encode()


def content(data: Any) -> bytes:
    """Returns the content of a JSON object, without its braces."""
    return to_json(data)[1:-1]


class _Parts:
    """What the items with a list of contents share, of which each has one."""

    _kind = ""

    def __init__(self, events: Events, id: str, index: int) -> None:
        self._events = events
        self._id = id
        self._index = index
        self._place = content({"item_id": id, "output_index": index})
        self._part_place = self._place + b',"content_index":0'
        self._pieces: list[str] = []
        self._delta_head = head(f"response.{self._kind}.delta")
        self._delta_middle = b"," + self._part_place + b',"delta":'

    def begin(self) -> bytes:
        """Returns the events with which the item appears."""
        item = to_json(self._item("in_progress", []))
        part = to_json(self._part(""))
        write = self._events.write
        index = b'"output_index":%d' % self._index
        return write("response.output_item.added", index + b',"item":' + item) + write(
            "response.content_part.added", self._part_place + b',"part":' + part
        )

    def add(self, text: str) -> None:
        """Adds a piece without writing an event."""
        self._pieces.append(text)

    def end(self, status: Status) -> bytes:
        """Returns the item's last events, after which nothing may be added."""
        write = self._events.write
        text = "".join(self._pieces)
        part = to_json(self._part(text))
        return (
            write(f"response.{self._kind}.done", self._part_place + b"," + self._done(text))
            + write("response.content_part.done", self._part_place + b',"part":' + part)
            + write(
                "response.output_item.done",
                b'"output_index":%d,"item":' % self._index + self.json(status),
            )
        )

    def json(self, status: Status) -> bytes:
        """Returns the whole item."""
        return to_json(self._item(status, [self._part("".join(self._pieces))]))

    def _done(self, text: str) -> bytes:
        return content({"text": text})

    def _part(self, text: str) -> dict[str, Any]:
        raise NotImplementedError

    def _item(self, status: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
        raise NotImplementedError


class Message(_Parts):
    """The text of an answer."""

    _kind = "output_text"

    def __init__(self, events: Events, id: str, index: int) -> None:
        super().__init__(events, id, index)
        self._logprobs: list[dict[str, Any]] = []

    def add_logprobs(self, logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
        """Adds the tokens of a piece; returns them in the API's form."""
        added = [
            {**_logprob(token), "top_logprobs": [_logprob(top) for top in token.top]}
            for token in logprobs
        ]
        self._logprobs += added
        return added

    def delta(self, text: str, logprobs: Sequence[TokenLogprob] = ()) -> bytes:
        """Adds a piece; returns its event."""
        self._pieces.append(text)
        told = to_json(self.add_logprobs(logprobs)) if logprobs else b"[]"
        return self._events.prepared(
            self._delta_head, b'%b%b,"logprobs":%b}\n\n' % (self._delta_middle, to_json(text), told)
        )

    def _done(self, text: str) -> bytes:
        return content({"text": text, "logprobs": self._logprobs})

    def _part(self, text: str) -> dict[str, Any]:
        logprobs = self._logprobs
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}

    def _item(self, status: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": parts,
        }


class Thought(_Parts):
    """What the model thought before its answer."""

    _kind = "reasoning_text"

    def delta(self, text: str) -> bytes:
        """Adds a piece; returns its event."""
        self._pieces.append(text)
        return self._events.prepared(
            self._delta_head, b"%b%b}\n\n" % (self._delta_middle, to_json(text))
        )

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "reasoning_text", "text": text}

    def _item(self, status: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "reasoning",
            "status": status,
            "summary": [],
            "content": parts,
        }


class Call:
    """A call of a function or of a custom tool, whose input is text."""

    def __init__(self, events: Events, id: str, index: int, call_id: str, tool: ClientTool) -> None:
        self._events = events
        self._index = index
        self._input = CustomInput() if tool.custom else None
        self._pieces: list[str] = []
        self._key = "input" if tool.custom else "arguments"
        self._kind = "custom_tool_call_input" if tool.custom else "function_call_arguments"
        self._fields = {
            "id": id,
            "type": "custom_tool_call" if tool.custom else "function_call",
            "call_id": call_id,
            "name": tool.name,
        }
        self._told = {} if tool.custom else {"name": tool.name}
        """What the event with all the arguments has besides: `openai-java` requires it."""
        if tool.namespace is not None:
            self._fields["namespace"] = tool.namespace
        self._place = content({"item_id": id, "output_index": index})
        self._delta_head = head(f"response.{self._kind}.delta")
        self._delta_middle = b"," + self._place + b',"delta":'

    def begin(self) -> bytes:
        """Returns the events with which the item appears."""
        return self._events.write(
            "response.output_item.added",
            b'"output_index":%d,"item":' % self._index + self.json("in_progress"),
        )

    def add(self, arguments: str) -> str:
        """Adds a piece of the arguments; returns what it adds to what the client is told."""
        added = arguments if self._input is None else self._input.feed(arguments)
        self._pieces.append(added)
        return added

    def delta(self, arguments: str) -> bytes:
        """Adds a piece of the arguments; returns its event, if the client is told anything."""
        added = self.add(arguments)
        if not added:
            return b""
        return self._events.prepared(
            self._delta_head, b"%b%b}\n\n" % (self._delta_middle, to_json(added))
        )

    def end(self, status: Status) -> bytes:
        """Returns the item's last events, after which nothing may be added."""
        write = self._events.write
        done = content(self._told | {self._key: "".join(self._pieces)})
        return write(f"response.{self._kind}.done", self._place + b"," + done) + write(
            "response.output_item.done",
            b'"output_index":%d,"item":' % self._index + self.json(status),
        )

    def json(self, status: Status | Literal["in_progress"]) -> bytes:
        """Returns the whole item."""
        return to_json({**self._fields, self._key: "".join(self._pieces), "status": status})


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.token, "bytes": list(token.bytes), "logprob": token.logprob}
