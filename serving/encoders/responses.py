"""Writes answers in the form of OpenAI's Responses API."""

from collections.abc import Sequence
from typing import Any

from serving.answers.events import (
    Answer,
    Arguments,
    CallBegun,
    CallEnded,
    End,
    Event,
    PromptTokens,
    Reasoning,
    Step,
    Text,
    TextTokens,
    TokenLogprob,
    ToolCall,
    Usage,
)
from serving.encoders.errors import openai_error
from serving.encoders.response_items import Call, Events, Message, Status, Thought, content
from serving.encoders.sse import to_json
from serving.requests.response_tools import ClientTool
from serving.requests.responses import ResponseOptions


class ResponsesEncoder:
    """Writes the answer to one request; it has one choice."""

    told_by = (Text,)

    def __init__(
        self, options: ResponseOptions, id: str, created: int, model: str, usage: Usage
    ) -> None:
        self._options = options
        self._usage = usage
        self._item_suffix = id.removeprefix("resp_")
        fields = {"id": id, "object": "response", "created_at": created, "model": model}
        self._constant = content(fields | options.echoed)
        self._events = Events()
        self._text_tokens = TextTokens()
        self._ended: list[bytes] = []
        self._open: Message | Thought | Call | None = None
        self._end: End | None = None

    def prompt(self, prompt: PromptTokens) -> None:
        pass

    def begin(self) -> bytes:
        response = b'"response":' + self._response("in_progress", [])
        write = self._events.write
        return write("response.created", response) + write("response.in_progress", response)

    def step(self, index: int, step: Step) -> bytes:
        tokens = self._text_tokens.of(step)
        if step.end is None and len(step.events) == 1:
            return self._event(step.events[0], tokens)
        written = []
        for event in step.events:
            written.append(self._event(event, tokens))
            if isinstance(event, Text) and event.text:
                tokens = []
        if step.end is not None:
            self._end = step.end
            cut_off = isinstance(self._open, Call) or _status(step.end) == "incomplete"
            written.append(self._close("incomplete" if cut_off else "completed"))
        return b"".join(written)

    def finish(self) -> bytes:
        status = _status(self._end)
        response = self._response(status, self._ended, with_usage=True)
        return self._events.write(f"response.{status}", b'"response":' + response)

    def error(self, message: str, status: int) -> bytes:
        """Returns the two events that end a stream with an error of that HTTP status. What is in
        `error`, as OpenAI's service has it, is an exception in its clients; others know the rest.
        """
        error = {"code": _error_code(status), "message": message}
        begun = [] if self._open is None else [self._open.json("incomplete")]
        response = self._response("failed", [*self._ended, *begun], error)
        write = self._events.write
        told = {**error, "param": None, **openai_error(message, status, code=error["code"])}
        return write("error", content(told)) + write("response.failed", b'"response":' + response)

    def whole(self, answers: list[Answer]) -> bytes:
        (answer,) = answers
        status = _status(answer.end)
        items = self._items(answer)
        written = [item.json("completed") for item in items[:-1]]
        if items:
            last = items[-1]
            if isinstance(last, Call):
                written.append(
                    last.json("completed" if answer.calls[-1].complete else "incomplete")
                )
            else:
                written.append(last.json(status))
        return self._response(status, written, with_usage=True)

    def _items(self, answer: Answer) -> list[Message | Thought | Call]:
        items: list[Message | Thought | Call] = []
        logprobs = iter(answer.text_logprobs)
        for part in answer.parts:
            match part:
                case str():
                    message = items[-1] if items else None
                    if not isinstance(message, Message):  # else reasoning between them is left out
                        message = self._message(len(items))
                        items.append(message)
                    message.add(part)
                    message.add_logprobs(next(logprobs))
                case Reasoning(text):
                    if self._options.include_reasoning:
                        thought = self._thought(len(items))
                        thought.add(text)
                        items.append(thought)
                case ToolCall():
                    call = self._call(len(items), part.id, part.name)
                    call.add(part.arguments)
                    items.append(call)
        return items

    def _event(self, event: Event, tokens: Sequence[TokenLogprob]) -> bytes:
        item = self._open
        match event:
            case Text(text):
                if isinstance(item, Message):
                    return item.delta(text, tokens) if text else b""
                if not text:
                    return b""
                before = self._close("completed")
                message = self._open = self._message(len(self._ended))
                return before + message.begin() + message.delta(text, tokens)
            case Reasoning(text):
                if not text or not self._options.include_reasoning:
                    return b""
                if isinstance(item, Thought):
                    return item.delta(text)
                before = self._close("completed")
                thought = self._open = self._thought(len(self._ended))
                return before + thought.begin() + thought.delta(text)
            case CallBegun(id, name):
                before = self._close("completed")
                call = self._open = self._call(len(self._ended), id, name)
                return before + call.begin()
            case Arguments(text):
                assert isinstance(item, Call)
                return item.delta(text)
            case CallEnded():
                return self._close("completed")

    def _close(self, status: Status) -> bytes:
        """Ends the open item, if there is one."""
        item, self._open = self._open, None
        if item is None:
            return b""
        written = item.end(status)
        self._ended.append(item.json(status))
        return written

    def _message(self, index: int) -> Message:
        return Message(self._events, self._item_id("msg", index), index)

    def _thought(self, index: int) -> Thought:
        return Thought(self._events, self._item_id("rs", index), index)

    def _call(self, index: int, call_id: str, name: str) -> Call:
        tool = self._options.tools.get(name) or ClientTool(name)
        item_id = self._item_id("ctc" if tool.custom else "fc", index)
        return Call(self._events, item_id, index, call_id, tool)

    def _item_id(self, prefix: str, index: int) -> str:
        return f"{prefix}_{self._item_suffix}{index:02x}"

    def _response(
        self,
        status: str,
        items: Sequence[bytes],
        error: dict[str, Any] | None = None,
        with_usage: bool = False,
    ) -> bytes:
        """Returns the response object. Its usage stands last, where the router looks for it."""
        details = {"reason": "max_output_tokens"} if status == "incomplete" else None
        fields = {"status": status, "error": error, "incomplete_details": details}
        return b'{%b,%b,"output":[%b],"usage":%b}' % (
            self._constant,
            content(fields),
            b",".join(items),
            to_json(_usage(self._usage)) if with_usage else b"null",
        )


def _status(end: End | None) -> Status:
    return "incomplete" if end is not None and end.reason == "length" else "completed"


def _error_code(status: int) -> str:
    """Returns one of the codes that the API defines for a failed response."""
    if status == 429:
        return "rate_limit_exceeded"
    return "server_error" if status >= 500 else "invalid_prompt"


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
