"""Parameters of sampling and of where an answer ends, and the log-probabilities of its tokens."""

import math
from typing import Any

from serving.tiny import answers as own

from .answer import parsed
from .cases import CUT_TOKENS, asked
from .check import Theme
from .expect import expect
from .needs import tiny
from .server import CHAT, COMPLETIONS, RESPONSES, Server, ok

theme = Theme("sampling")
check = theme.check

COUNT = "Count from 1 to 10."
_LOGPROBS = "message.output_text.logprobs"


async def _choice(server: Server, **more: Any) -> Any:
    """The only choice of a chat answer to a count."""
    body = asked(COUNT, **{"temperature": 0, "max_tokens": CUT_TOKENS, **more})
    (choice,) = ok(await server.post(CHAT, body))["choices"]
    return choice


@check()
async def a_seed_gives_the_same_answer_again(server: Server) -> None:
    """Two sampled requests with one `seed` get one answer (OpenAI's API)."""
    body = asked("Hello", temperature=1, seed=11, max_tokens=CUT_TOKENS)
    one, other = await server.chat(body), await server.chat(body)
    expect(one.content == other.content, f"{one.shown} and {other.shown}")


@check()
async def a_seed_of_a_long_prompt_is_taken(server: Server) -> None:
    """A sampled request with a `seed` and a prompt of several thousand tokens is answered."""
    words = min(3000, server.model.context_tokens // 2)
    answer = await server.chat(asked("hello " * words, temperature=1, seed=1, max_tokens=4))
    expect(answer.completion_tokens, answer.shown)


@check()
async def several_choices_are_streamed_by_their_index(server: Server) -> None:
    """A stream with `n` has the deltas and the finish reason of each choice (OpenAI's API)."""
    body = asked("Hello", n=3, temperature=1, max_tokens=CUT_TOKENS, stream=True)
    finished: list[int] = []
    async with server.events(CHAT, body) as (stream, _):
        async for event in stream:
            choices = [] if event.data == "[DONE]" else event.json()["choices"]
            finished += [choice["index"] for choice in choices if choice.get("finish_reason")]
    expect(sorted(finished) == [0, 1, 2], f"finished: {finished}")


@check()
async def one_token_is_an_answer(server: Server) -> None:
    """`max_tokens: 1` gives one token and the finish reason `length` (OpenAI's API)."""
    answer = await server.chat(asked(COUNT, temperature=0, max_tokens=1))
    expect(answer.completion_tokens == 1, f"{answer.completion_tokens} tokens")
    expect(answer.finish_reason == "length", answer.shown)


@check(tiny)
async def a_stop_string_is_met_across_tokens(server: Server) -> None:
    """A stop string that spans several tokens, and begins within one, ends the answer before it."""
    for stop, text in (("5, 6", "1, 2, 3, 4, "), (" 3, 4", "1, 2,"), ("0", "1, 2, 3, 4, 5")):
        choice = await _choice(server, stop=[stop], max_tokens=200)
        content = choice["message"]["content"]
        expect(content.startswith(text) and stop not in content, f"up to {stop!r}: {content!r}")
        expect(choice["finish_reason"] == "stop", f"{choice}")


@check(tiny)
async def the_first_of_several_stop_strings_ends_the_answer(server: Server) -> None:
    """The stop string that comes first ends the answer, whatever the order of `stop`."""
    for stops in (["4", "3"], ["3", "4"]):
        choice = await _choice(server, stop=stops)
        expect(choice["message"]["content"] == "1, 2, ", f"{choice}")


@check(tiny)
async def a_stop_string_stays_when_asked_for(server: Server) -> None:
    """`include_stop_str_in_output` keeps the stop string (vLLM's API)."""
    choice = await _choice(server, stop=[", 3"], include_stop_str_in_output=True)
    expect(choice["message"]["content"] == "1, 2, 3", f"{choice}")


@check(tiny)
async def stop_token_ids_end_the_answer(server: Server) -> None:
    """A token of `stop_token_ids` ends the answer with the finish reason `stop` (vLLM's API)."""
    ids = ok(await server.post("/tokenize", {"prompt": ",", "add_special_tokens": False}))
    choice = await _choice(server, stop_token_ids=ids["tokens"][-1:])
    expect(choice["message"]["content"].startswith("1"), f"{choice}")
    expect("2" not in choice["message"]["content"], f"{choice}")
    expect(choice["finish_reason"] == "stop", f"{choice}")


@check()
async def ignore_eos_runs_to_max_tokens(server: Server) -> None:
    """`ignore_eos` gives exactly `max_tokens` tokens, whole and streamed (vLLM's API)."""
    body = asked("Hello", temperature=0, ignore_eos=True, max_tokens=40)
    whole, joined = await server.chat(body), await server.stream(body)
    expect(whole.completion_tokens == joined.completion_tokens == 40, f"{whole.shown}")
    if server.model.tiny:
        expect(whole.content == joined.content, f"streamed {joined.shown}, whole {whole.shown}")


@check()
async def min_tokens_hold_the_end_back(server: Server) -> None:
    """`min_tokens` gives at least as many tokens (vLLM's API)."""
    answer = await server.chat(asked("Hello", temperature=0, min_tokens=30, max_tokens=40))
    expect((answer.completion_tokens or 0) >= 30, f"{answer.completion_tokens} tokens")


@check(tiny)
async def logit_bias_bans_a_token(server: Server) -> None:
    """A `logit_bias` of -100 bans a token, by the id of `/tokenize` (OpenAI's API)."""
    ids = ok(await server.post("/tokenize", {"prompt": "1", "add_special_tokens": False}))
    choice = await _choice(server, logit_bias={str(ids["tokens"][-1]): -100})
    expect("1" not in choice["message"]["content"], f"{choice}")


@check(tiny)
async def bad_words_are_not_written(server: Server) -> None:
    """`bad_words` do not occur in the answer (vLLM's API)."""
    choice = await _choice(server, bad_words=["3"])
    expect("3" not in choice["message"]["content"], f"{choice}")


@check()
async def logprobs_of_a_chat_join_to_its_text(server: Server) -> None:
    """`logprobs` has each token with its bytes and as many alternatives as asked for (OpenAI's
    API)."""
    choice = await _choice(server, logprobs=True, top_logprobs=3)
    tokens = choice["logprobs"]["content"]
    data = b"".join(bytes(token["bytes"]) for token in tokens)
    expect(data.decode().startswith(choice["message"]["content"]), f"bytes {data!r}")
    for token in tokens:
        expect(len(token["top_logprobs"]) >= 3, f"{len(token['top_logprobs'])} alternatives")
        expect(token["logprob"] <= 0 and math.isfinite(token["logprob"]), f"{token}")


@check(tiny)
async def logprobs_have_the_bytes_of_broken_characters(server: Server) -> None:
    """The bytes of `logprobs` join to text whose characters span several tokens (OpenAI's API)."""
    body = asked(own.SCRIPTS_PROMPT, temperature=0, logprobs=True, max_tokens=200)
    (choice,) = ok(await server.post(CHAT, body))["choices"]
    data = b"".join(bytes(token["bytes"]) for token in choice["logprobs"]["content"])
    expect(data.decode().startswith(own.SCRIPTS_ANSWER), f"bytes {data!r}")


@check()
async def logprobs_without_alternatives_have_none(server: Server) -> None:
    """`logprobs` without `top_logprobs` has the tokens alone, and no `logprobs` is null (OpenAI's
    API)."""
    tokens = (await _choice(server, logprobs=True))["logprobs"]["content"]
    expect(tokens and not any(token["top_logprobs"] for token in tokens), f"{tokens}")
    expect((await _choice(server)).get("logprobs") is None, "logprobs that were not asked for")


@check()
async def logprobs_of_a_text_completion_are_of_its_tokens(server: Server) -> None:
    """`logprobs` of `/v1/completions` has four lists of one length, whose tokens join to the text
    (OpenAI's API)."""
    body = {"prompt": "1, 2, 3", "logprobs": 2, "max_tokens": 4, "temperature": 0}
    (choice,) = ok(await server.post(COMPLETIONS, body))["choices"]
    logprobs = choice["logprobs"]
    fields = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    lengths = {len(logprobs[field]) for field in fields}
    expect(len(lengths) == 1, f"lists of {lengths} items")
    expect("".join(logprobs["tokens"]).startswith(choice["text"]), f"{logprobs['tokens']}")


@check()
async def logprobs_of_a_response_are_in_its_text(server: Server) -> None:
    """`include` of the log-probabilities adds them to the text's part (OpenAI's API)."""
    body = {"input": COUNT, "include": [_LOGPROBS], "top_logprobs": 2, "max_output_tokens": 16}
    response = ok(await server.post(RESPONSES, {**body, "temperature": 0}))
    part = response["output"][-1]["content"][0]
    text = "".join(token["token"] for token in part["logprobs"])
    expect(text.startswith(part["text"]) and text, f"tokens {text!r}, text {part['text']!r}")


@check()
async def the_tokens_of_a_prompt_have_logprobs(server: Server) -> None:
    """`echo` with `logprobs` and `max_tokens: 0` scores a text, as evaluations do (vLLM's API)."""
    body = {"prompt": "1, 2, 3", "echo": True, "logprobs": 1, "max_tokens": 0}
    (choice,) = ok(await server.post(COMPLETIONS, body))["choices"]
    first, *rest = choice["logprobs"]["token_logprobs"]
    expect(first is None and rest and all(value <= 0 for value in rest), f"{first}, {rest}")
    expect(choice["text"] == "1, 2, 3", f"text {choice['text']!r}")


@check()
async def prompts_may_be_token_ids(server: Server) -> None:
    """`/v1/completions` takes a text, its token ids, and lists of both, with one answer each
    (OpenAI's API)."""
    ids = ok(await server.post("/tokenize", {"prompt": "Hello"}))["tokens"]
    for prompt, count in ((ids, 1), ([ids, ids], 2), (["Hello", "Hello"], 2)):
        body = {"prompt": prompt, "max_tokens": 3, "temperature": 0}
        choices = ok(await server.post(COMPLETIONS, body))["choices"]
        expect([choice["index"] for choice in choices] == list(range(count)), f"{choices}")
        if server.model.tiny:
            expect(len({choice["text"] for choice in choices}) == 1, f"{choices}")


@check()
async def the_echo_of_a_prompt_comes_first(server: Server) -> None:
    """`echo` begins the text with the prompt (OpenAI's API)."""
    body = {"prompt": "1, 2, 3", "echo": True, "max_tokens": 3, "temperature": 0}
    (choice,) = ok(await server.post(COMPLETIONS, body))["choices"]
    expect(choice["text"].startswith("1, 2, 3"), f"text {choice['text']!r}")


@check()
async def a_choice_and_a_pattern_bind_the_text(server: Server) -> None:
    """`structured_outputs` with a `choice` or a `regex` gives a text of it (vLLM's API)."""
    for form, texts in (
        ({"choice": ["yes", "no"]}, {"yes", "no"}),
        ({"regex": "[ab]"}, {"a", "b"}),
    ):
        choice = await _choice(server, structured_outputs=form)
        expect(choice["message"]["content"] in texts, f"{form}: {choice['message']}")


@check()
async def the_form_holds_for_each_choice(server: Server) -> None:
    """With `n` and a schema each choice obeys the schema (OpenAI's API)."""
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    form = {"name": "status", "schema": {**schema, "additionalProperties": False}}
    body = asked("Hello", n=2, temperature=1, max_tokens=100, seed=3)
    body["response_format"] = {"type": "json_schema", "json_schema": form}
    for choice in ok(await server.post(CHAT, body))["choices"]:
        if choice["finish_reason"] == "stop":
            value = parsed(choice["message"]["content"], "a choice")
            expect(isinstance(value["ok"], bool), f"{value}")
