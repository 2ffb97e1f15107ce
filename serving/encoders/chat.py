"""The answers of OpenAI's chat completions."""

from collections.abc import Collection

from serving.answers.events import (
    Answer,
    Arguments,
    CallBegun,
    Event,
    PromptTokens,
    Reasoning,
    Step,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
)
from serving.encoders.custom_input import CustomInput
from serving.encoders.errors import openai_error
from serving.encoders.prompt_logprobs import prompt_logprobs
from serving.encoders.sse import DONE, event, to_json
from serving.encoders.usage import openai_usage
from serving.mistral.reasoning import reasoning_fields
from serving.requests.chat import ChatOptions
from serving.requests.request import JsonObject

_CONTENT = b',"delta":{"content":'
_GOES_ON = b'},"logprobs":null,"finish_reason":null}]}\n\n'


class ChatEncoder:
    """Writes chat completions and their chunks, with any number of choices."""

    def __init__(
        self, options: ChatOptions, id: str, created: int, model: str, usage: Usage
    ) -> None:
        self.told_by: Collection[type[Event]]
        self.told_by = () if options.custom_tools else (Text, Reasoning, Arguments)
        self._options = options
        self._usage = usage
        self._head: JsonObject = {
            "id": id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
        }
        # A chunk of text is by far the most frequent; all of it but the text is made once.
        head = b"data: " + to_json(self._head)[:-1] + b',"choices":[{"index":'
        self._text_heads = [head + b"%d" % index + _CONTENT for index in range(options.n)]
        self._of_prompt: JsonObject = {}
        self._plain = not options.continuous_usage
        self._calls = [-1] * options.n
        """The index of each choice's last call."""
        self._unended = options.n
        """The number of choices that have not ended."""
        self._held: list[list[Event]] = [[] for _ in range(options.n)]
        """The events of each choice's calls, where its last chunk has them all."""
        self._inputs: list[CustomInput | None] = [None] * options.n
        """The input of each choice's last call, if that is of a custom tool."""

    def prompt(self, prompt: PromptTokens) -> None:
        if self._options.return_token_ids:
            self._of_prompt["prompt_token_ids"] = prompt.token_ids
        if prompt.logprobs is not None:
            self._of_prompt["prompt_logprobs"] = prompt_logprobs(prompt.logprobs)

    def begin(self) -> bytes:
        """Returns each choice's first chunk, which has its role alone."""
        echo = self._options.echo
        chunks = []
        for index in range(self._options.n):
            chunks.append(self._chunk(index, {"role": "assistant", "content": ""}))
            if echo:
                chunks.append(self._chunk(index, {"content": echo}))
        return b"".join(chunks)

    def step(self, index: int, step: Step) -> bytes:
        events = step.events
        if self._plain and step.end is None and step.logprobs is None and step.token_ids is None:
            if not events:
                return b""
            only = events[0]
            if len(events) == 1 and type(only) is Text:
                return self._text_heads[index] + to_json(only.text) + _GOES_ON
        deltas = [delta for event in events if (delta := self._delta(index, event)) is not None]
        if step.end is not None and self._held[index]:
            calls = Answer.of([Step(self._held[index])]).calls
            whole = [{"index": at, **self._call(call)} for at, call in enumerate(calls)]
            deltas.append({"tool_calls": whole})
        rest: JsonObject = {}
        if step.token_ids is not None:
            rest["token_ids"] = step.token_ids
        if not deltas and (step.logprobs or step.token_ids or step.end is not None):
            deltas.append({})
        if step.end is not None:
            self._unended -= 1
        chunks = []
        for at, delta in enumerate(deltas):
            choice = dict(rest) if at == 0 else {}
            choice["logprobs"] = self._logprobs(step.logprobs) if at == 0 else None
            choice["finish_reason"] = None
            if at == len(deltas) - 1 and step.end is not None:
                choice["finish_reason"] = step.end.reason
                choice["stop_reason"] = step.end.stop
            chunks.append(self._chunk(index, delta, choice))
        return b"".join(chunks)

    def finish(self) -> bytes:
        if not self._options.include_usage:
            return DONE
        return event({**self._head, "choices": [], "usage": openai_usage(self._usage)}) + DONE

    def error(self, message: str, status: int) -> bytes:
        return event(openai_error(message, status, code=status)) + DONE

    def whole(self, answers: list[Answer]) -> bytes:
        return to_json(
            {
                **self._head,
                "object": "chat.completion",
                "choices": [self._choice(index, answer) for index, answer in enumerate(answers)],
                "usage": openai_usage(self._usage),
                **self._of_prompt,
            }
        )

    def _chunk(self, index: int, delta: JsonObject, choice: JsonObject | None = None) -> bytes:
        rest = choice or {"logprobs": None, "finish_reason": None}
        chunk = {**self._head, "choices": [{"index": index, "delta": delta, **rest}]}
        if "role" in delta:
            chunk |= self._of_prompt
        is_last = self._options.usage_at_end and not self._unended and rest["finish_reason"]
        if self._options.continuous_usage or is_last:
            chunk["usage"] = openai_usage(self._usage)
        return event(chunk)

    def _delta(self, index: int, event: Event) -> JsonObject | None:
        match event:
            case Text(text):
                return {"content": text}
            case Reasoning(text):
                return reasoning_fields(text)
            case CallBegun() | Arguments() if self._options.whole_calls:
                self._held[index].append(event)
            case CallBegun(id, name):
                self._calls[index] += 1
                custom = name in self._options.custom_tools
                self._inputs[index] = CustomInput() if custom else None
                begun = self._call(ToolCall(id, name, ""))
                return {"tool_calls": [{"index": self._calls[index], **begun}]}
            case Arguments(text):
                input = self._inputs[index]
                if input is None:
                    added = {"function": {"arguments": text}}
                elif told := input.feed(text):
                    added = {"custom": {"input": told}}
                else:
                    return None
                return {"tool_calls": [{"index": self._calls[index], **added}]}
        return None

    def _call(self, call: ToolCall) -> JsonObject:
        if call.name in self._options.custom_tools:
            custom = {"name": call.name, "input": CustomInput().feed(call.arguments)}
            return {"id": call.id, "type": "custom", "custom": custom}
        function = {"name": call.name, "arguments": call.arguments}
        return {"id": call.id, "type": "function", "function": function}

    def _choice(self, index: int, answer: Answer) -> JsonObject:
        assert answer.end is not None
        calls = [self._call(call) for call in answer.calls]
        text = self._options.echo + answer.text
        message: JsonObject = {
            "role": "assistant",
            "content": text or (None if calls else ""),
            "refusal": None,
        }
        if calls:
            message["tool_calls"] = calls
        if answer.reasoning:
            message.update(reasoning_fields(answer.reasoning))
        choice = {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(answer.logprobs),
            "finish_reason": answer.end.reason,
            "stop_reason": answer.end.stop,
        }
        if answer.token_ids is not None:
            choice["token_ids"] = answer.token_ids
        return choice

    def _logprobs(self, logprobs: list[TokenLogprob] | None) -> JsonObject | None:
        if logprobs is None:
            return None
        return {
            "content": [
                {**self._token(token), "top_logprobs": [self._token(other) for other in token.top]}
                for token in logprobs
            ]
        }

    def _token(self, token: TokenLogprob) -> JsonObject:
        name = token.name(self._options.tokens_as_ids)
        return {"token": name, "logprob": token.logprob, "bytes": list(token.bytes)}
