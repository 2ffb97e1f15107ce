"""Writes answers in the form of OpenAI's completions API."""

from serving.answers.events import Answer, PromptTokens, Step, Text, TokenLogprob, Usage
from serving.encoders.completion_logprobs import CompletionLogprobs
from serving.encoders.errors import openai_error
from serving.encoders.prompt_logprobs import prompt_logprobs
from serving.encoders.sse import DONE, event, to_json
from serving.encoders.usage import openai_usage
from serving.requests.completions import CompletionOptions
from serving.requests.request import JsonObject

_TAIL = (
    b',"logprobs":null,"finish_reason":null,"stop_reason":null,'
    b'"prompt_token_ids":null,"token_ids":null}]}\n\n'
)


class CompletionEncoder:
    """Writes one choice for each answer to each prompt: the index of a choice is that of its prompt
    times `n`, plus that of the answer among the prompt's."""

    told_by = (Text,)

    def __init__(
        self, options: CompletionOptions, id: str, created: int, model: str, usage: Usage
    ) -> None:
        """`id` is the answer's, `cmpl-…`."""
        self._options = options
        self._usage = usage
        self._start: JsonObject = {
            "id": id,
            "object": "text_completion",
            "created": created,
            "model": model,
        }
        choices = range(options.prompts * options.n)
        head = b"data: " + to_json(self._start)[:-1] + b',"choices":[{"index":'
        self._heads = [head + b'%d,"text":' % index for index in choices]
        self._logprobs = [CompletionLogprobs(options.tokens_as_ids) for _ in choices]
        self._prompts: dict[int, PromptTokens] = {}
        self._begun: set[int] = set()

    def prompt(self, prompt: PromptTokens) -> None:
        self._prompts[prompt.index] = prompt

    def begin(self) -> bytes:
        return b""

    def step(self, index: int, step: Step) -> bytes:
        options = self._options
        text = "".join([one.text for one in step.events if isinstance(one, Text)])
        if (
            index in self._begun
            and step.end is None
            and step.logprobs is None
            and step.token_ids is None
            and not options.continuous_usage
            and not options.echo_only
        ):
            return self._heads[index] + to_json(text) + _TAIL if text else b""
        prompt = None if index in self._begun else self._prompts.get(index // options.n)
        shown = prompt is not None and (
            options.echo or options.return_token_ids or options.prompt_logprobs
        )
        if not (text or step.end or step.logprobs or step.token_ids or shown):
            return b""
        self._begun.add(index)
        chunk = self._start | {"choices": [self._choice(index, text, step, prompt)]}
        if options.continuous_usage:
            chunk["usage"] = self._told_usage()
        return event(chunk)

    def finish(self) -> bytes:
        if not self._options.include_usage:
            return DONE
        return event(self._start | {"choices": [], "usage": self._told_usage()}) + DONE

    def error(self, message: str, status: int) -> bytes:
        return event(openai_error(message, status, code=status)) + DONE

    def whole(self, answers: list[Answer]) -> bytes:
        choices = [
            self._choice(index, answer.text, answer, self._prompts.get(index // self._options.n))
            for index, answer in enumerate(answers)
        ]
        return to_json(self._start | {"choices": choices, "usage": self._told_usage()})

    def _choice(
        self, index: int, text: str, part: Step | Answer, prompt: PromptTokens | None
    ) -> JsonObject:
        """Returns a choice, or the next part of one; `prompt` is given with the first part."""
        options = self._options
        tokens: list[TokenLogprob | None] = []
        if options.echo_only:
            text = ""
        else:
            tokens.extend(part.logprobs or ())
        if prompt and options.echo:
            text = prompt.text + text
            tokens = [*(prompt.logprobs or ()), *tokens]
        first = prompt.first if prompt else None
        shows_logprobs = options.logprobs is not None and bool(tokens)
        reason = part.end and ("length" if part.end.reason == "length" else "stop")
        choice: JsonObject = {
            "index": index,
            "text": text,
            "logprobs": self._logprobs[index].of(tokens, first) if shows_logprobs else None,
            "finish_reason": reason,
            "stop_reason": part.end and part.end.stop,
            "prompt_token_ids": prompt.token_ids if prompt and options.return_token_ids else None,
            "token_ids": self._token_ids(part.token_ids),
        }
        if prompt and prompt.logprobs is not None and options.prompt_logprobs:
            choice["prompt_logprobs"] = prompt_logprobs(prompt.logprobs)
        return choice

    def _told_usage(self) -> JsonObject:
        """Returns the usage; the engine generates a token even where none is asked for."""
        told = openai_usage(self._usage)
        if self._options.echo_only:
            told["completion_tokens"], told["total_tokens"] = 0, told["prompt_tokens"]
        return told

    def _token_ids(self, token_ids: list[int] | None) -> list[int] | None:
        if token_ids is None or not self._options.return_token_ids:
            return None
        return [] if self._options.echo_only else token_ids
