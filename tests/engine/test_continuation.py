"""Streams that go on at another engine, from each place at which the first one may have broken off.

The router's own code reads what was delivered and has the second engine continue it.
"""

import asyncio
import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from vllm.logprobs import Logprob

from serving.engine.vllm.front_end import FrontEnd
from serving.engine.vllm.resumed_requests import GRAMMAR_IDS, RESUMED_IDS
from serving.engine_protocol import BEGIN, RESUMPTION
from serving.router.proxy.stream_resumption import StreamResumption
from tests.engine.asking import BODIES, CHAT, COMPLETIONS, MESSAGES, NAMES, RESPONSES
from tests.engine.fake_llm import EOS, FakeLlm, Part, control, ids
from tests.support.reading import RULES
from tests.support.strict_sdks import read

COMMENT = re.compile(rb"^:", re.M)
ASKED = {"x-request-id": "id", "user-agent": "any"}
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {}, "b": {}},
}
FUNCTION: dict[str, Any] = {"name": "f", "parameters": PARAMETERS}
TOOLS: dict[str, Any] = {
    CHAT: [{"type": "function", "function": FUNCTION}],
    RESPONSES: [{"type": "function", **FUNCTION}],
    MESSAGES: [{"name": "f", "input_schema": PARAMETERS}],
}
CALL = [control("[TOOL_CALLS]"), *ids("f"), control("[ARGS]"), *ids('{"a": "é 😀", "b": [2]}')]

Answer = Sequence[Part]


def parts(tokens: Sequence[int], reason: str = "stop", together: int = 1) -> list[Part]:
    """Returns an answer of these tokens, of which some are generated at a time."""
    steps = [Part(tokens[at : at + together]) for at in range(0, len(tokens), together)]
    steps[-1].reason = reason
    return steps


def behind(answer: Answer, tokens: int) -> list[Part]:
    """Returns an answer without its first tokens, which are those of whole steps."""
    rest = list(answer)
    while tokens:
        tokens -= len(rest.pop(0).token_ids)
        assert tokens >= 0
    return rest


class Engines:
    """Engines that are the same but for what they generate, in one process."""

    def __init__(self, exactly: bool = True) -> None:
        self.engine = FakeLlm()
        self._app = FrontEnd(self.engine, NAMES, RULES, None, exactly)
        self._http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self._app), base_url="http://engine"
        )
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> "Engines":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._app.close()
        await self._http.aclose()

    async def post(
        self, path: str, content: bytes, resumption: bytes, *answers: Answer
    ) -> httpx.Response:
        """Has the next engine answer, by generating these answers."""
        self.engine.answers, self.engine.calls = list(answers), []
        usage_id = f"router/{next(self._numbers)}"
        headers = {**ASKED, RESUMPTION.decode(): resumption.decode(), "x-usage-id": usage_id}
        async with asyncio.timeout(60):
            return await self._http.post(path, content=content, headers=headers)

    def assert_counted(self) -> None:
        """Checks that the router is told of all tokens that the engine counts."""
        counts = self._app.usage.report(b"router=router").ended.values()
        assert sum(one.read for one in counts) == self.engine.read_tokens
        assert sum(one.generated for one in counts) == self.engine.generated_tokens


def resumption_of(path: str, body: bytes, response: httpx.Response) -> StreamResumption:
    resumption = StreamResumption(path, body, "")
    resumption.answered(response.headers.raw)
    return resumption


def rest_of(answers: Sequence[Answer], handover: Any) -> list[list[Part]]:
    """Returns what the second engine generates of the answers, in the order of its requests."""
    tokens, ended = [0] * len(answers), [False] * len(answers)
    for choice, told, *reason in handover["steps"]:
        tokens[choice] += 1 if isinstance(told, str) else len(told)
        ended[choice] |= any(reason)
    return [
        behind(answer, count)
        for answer, count, is_whole in zip(answers, tokens, ended, strict=True)
        if not is_whole
    ]


def by_choice(stream: bytes) -> list[str]:
    """Returns the events in the order of their choices, which is all that is certain of several."""
    index = re.compile(r'"choices":\[{"index":(\d+)')
    events = stream.decode().split("\n\n")
    return sorted(events, key=lambda one: int(found[1]) if (found := index.search(one)) else 99)


async def check(path: str, *answers: Answer, exactly: bool = True, **fields: Any) -> str:
    """Breaks the stream off behind each of its events, and checks that the client gets the same as
    without that, which it returns, and that the strict SDK of its API reads it to the end."""
    async with Engines(exactly) as engines:
        return await _checked(engines, path, answers, exactly, fields)


async def _checked(
    engines: Engines, path: str, answers: Sequence[Answer], exactly: bool, fields: dict[str, Any]
) -> str:
    body = json.dumps({**BODIES[path], "stream": True, **fields}).encode()
    whole = await engines.post(path, body, BEGIN, *answers)
    assert whole.status_code == 200, whole.text
    expected = resumption_of(path, body, whole).feed(whole.content)
    assert COMMENT.search(whole.content) and not COMMENT.search(expected)
    events = whole.content.split(b"\n\n")[:-1]
    for cut in range(len(events) + 1):
        resumption = resumption_of(path, body, whole)
        got = resumption.feed(b"".join(event + b"\n\n" for event in events[:cut]))
        assert resumption.broken() == (cut == len(events))
        if cut == len(events):
            break
        assert not resumption.unresumable_reason
        header, content, carried = resumption.continuation(cached_tokens=0)
        handover = json.loads(content[len(body) :])
        assert content.startswith(body)
        assert handover["events"] == cut
        sent = header.removeprefix(RESUMPTION + b": ").removesuffix(b"\r\n")
        response = await engines.post(path, content, sent, *rest_of(answers, handover))
        assert response.status_code == 200, response.text
        assert response.headers[RESUMPTION.decode()] == whole.headers[RESUMPTION.decode()]
        rest = resumption.feed(response.content)
        assert by_choice(got + rest) == by_choice(expected)
        assert resumption.broken()
        if len(answers) == 1:
            given = [token for part in answers[0] for token in part.token_ids][:carried]
            for call in engines.engine.calls:
                prompt = call.prompt["prompt_token_ids"]
                extra = (call.params.extra_args or {}).get(RESUMED_IDS, [])
                assert given == (extra if exactly else prompt[len(prompt) - carried :])
    read(path, expected)
    engines.assert_counted()
    return expected.decode()


def said(stream: str) -> str:
    """Returns the texts in a stream's events, joined."""
    texts: list[str] = re.findall(r'"(?:content|text|delta)":("(?:[^"\\\\]|\\\\.)*")', stream)
    return "".join(map(json.loads, texts))


EVERY = pytest.mark.parametrize("path", [CHAT, COMPLETIONS, RESPONSES, MESSAGES])
CHATS = pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])


@EVERY
@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("exactly", [True, False])
async def test_text(path: str, together: int, exactly: bool) -> None:
    answer = parts([*ids("It was 😀 in “été”.\n\n"), EOS], together=together)
    assert "It was 😀 in “été”." in said(await check(path, answer, exactly=exactly))


@EVERY
async def test_an_answer_that_is_cut_off(path: str) -> None:
    got = await check(path, parts(ids("Hello"), "length"), max_tokens=50)
    assert re.search('"(length|max_tokens|max_output_tokens)"', got)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, MESSAGES])
async def test_stop_strings(path: str) -> None:
    name = "stop_sequences" if path == MESSAGES else "stop"
    stop: dict[str, Any] = {name: ["two t", "never"]}
    got = await check(path, parts([*ids("One two three"), EOS]), **stop)
    assert said(got) == "One "


@CHATS
@pytest.mark.parametrize("before", ["", "Let me see.\n"])
@pytest.mark.parametrize("together", [1, 4])
async def test_calls(path: str, before: str, together: int) -> None:
    tokens = [*ids(before), *CALL, *CALL, EOS]
    got = await check(path, parts(tokens, together=together), tools=TOOLS[path])
    assert "tool_use" in got or "call" in got


async def test_calls_for_clients_that_take_them_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ASKED, "user-agent", "mistral-client-python/3.7.0")
    tokens = [*ids("See"), *CALL, *CALL, EOS]
    got = await check(CHAT, parts(tokens), tools=TOOLS[CHAT])
    assert got.count('"tool_calls":[') == 1


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_several_answers(path: str) -> None:
    answers = parts([*ids("One"), EOS]), parts([*ids("Three"), EOS], together=2)
    options = {"include_usage": True}
    got = await check(path, *answers, n=2, stream_options=options)
    tokens = len([*ids("One"), EOS, *ids("Three"), EOS])
    assert f'"completion_tokens":{tokens},' in got


async def test_several_prompts() -> None:
    answers = [parts([*ids(text), EOS]) for text in ("One", "Two", "Three", "Four")]
    got = await check(COMPLETIONS, *answers, n=2, prompt=["Hi", "Hello"], echo=True)
    assert '"index":3,"text":"HelloF' in got


async def test_usage_in_each_event() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    got = await check(CHAT, parts([*ids("Hello"), EOS]), stream_options=options)
    assert got.count('"usage":{') > 5


def with_logprobs(tokens: Sequence[int]) -> list[Part]:
    """Returns an answer with the log-probability of each token and of another."""
    answer = parts(tokens)
    for n, part in enumerate(answer):
        known = {
            token: Logprob(-0.25 * n - rank, rank)
            for rank, token in enumerate((*part.token_ids, 101), 1)
        }
        part.logprobs = [known]
    return answer


async def test_logprobs_of_chats() -> None:
    got = await check(CHAT, with_logprobs([*ids("A 😀."), EOS]), logprobs=True, top_logprobs=1)
    assert '"top_logprobs":[{' in got


@pytest.mark.parametrize("echo", [False, True])
async def test_logprobs_of_completions(echo: bool) -> None:
    answer = with_logprobs([*ids("A 😀."), EOS])
    prompt = [1, *ids("Hi")]
    answer[0].prompt_logprobs = [None, *({token: Logprob(-1.5, 1)} for token in prompt[1:])]
    got = await check(COMPLETIONS, answer, logprobs=1, echo=echo, prompt=prompt)
    assert ('"text":"HiA"' in got) == echo


async def test_tokens_of_the_answer() -> None:
    got = await check(CHAT, parts([*ids("Hello"), EOS]), return_token_ids=True)
    assert '"prompt_token_ids":[' in got


@pytest.mark.parametrize("together", [1, 5])
async def test_reasoning(together: int) -> None:
    tokens = [*ids("<think>\nWell, so.\n</think>\nYes."), EOS]
    got = await check(CHAT, parts(tokens, together=together), reasoning_format="separate")
    assert '"reasoning":"' in got


REFUSED: list[tuple[str, dict[str, Any], bool]] = [
    (RESPONSES, {"include": ["message.output_text.logprobs"]}, True),
    (COMPLETIONS, {"n": 2, "echo": True, "logprobs": 1}, True),
    (CHAT, {"tools": TOOLS[CHAT]}, False),
    (CHAT, {"response_format": {"type": "json_object"}}, False),
    (CHAT, {"presence_penalty": 0.5}, False),
]


@pytest.mark.parametrize(("path", "fields", "exactly"), REFUSED)
async def test_what_cannot_go_on_is_named(path: str, fields: dict[str, Any], exactly: bool) -> None:
    body = json.dumps({**BODIES[path], "stream": True, **fields}).encode()
    answer = with_logprobs([*ids("Hi"), EOS])
    answer[0].prompt_logprobs = [None, *({token: Logprob(-1.5, 1)} for token in ids("Hi"))]
    async with Engines(exactly) as engines:
        whole = await engines.post(path, body, BEGIN, answer, answer)
        assert whole.status_code == 200
        resumption = resumption_of(path, body, whole)
        assert re.search("cannot continue|cannot be continued", resumption.unresumable_reason)
        assert not COMMENT.search(whole.content)
        mark = await mark_of(engines)
        sent = b"%b %d" % (mark, len(body))
        assert (await engines.post(path, body + NOTHING, sent)).status_code == 409


NOTHING = b'{"events":0,"cached_tokens":0,"steps":[]}'


async def mark_of(engines: Engines) -> bytes:
    """Returns a mark of these engines."""
    body = json.dumps(BODIES[CHAT] | {"stream": True}).encode()
    return (await engines.post(CHAT, body, BEGIN)).headers[RESUMPTION.decode()].encode()


@pytest.mark.parametrize(
    ("steps", "events"),
    [
        ([[0, "no such token"]], 1),
        ([[1, "H"]], 1),
        ([[0, [1 << 30]]], 1),
        ([[0, "H"]], 9),
        ([["no choice"]], 1),
    ],
)
async def test_a_handover_that_does_not_fit_is_refused(steps: Any, events: int) -> None:
    body = json.dumps(BODIES[CHAT] | {"stream": True}).encode()
    handover = json.dumps({"events": events, "cached_tokens": 0, "steps": steps}).encode()
    async with Engines() as engines:
        mark = await mark_of(engines)
        header = b"%b %d" % (mark, len(body))
        assert (await engines.post(CHAT, body + handover, header)).status_code == 409
        assert (await engines.post(CHAT, body + NOTHING, header)).status_code == 200
        other = mark.rpartition(b"-")[0] + b"-1 %d" % len(body)
        assert (await engines.post(CHAT, body + NOTHING, other)).status_code == 409
        assert not engines.engine.calls


async def test_nobody_else_gets_comments() -> None:
    body = json.dumps(BODIES[CHAT] | {"stream": True}).encode()
    async with Engines() as engines:
        plain = await engines.post(CHAT, body, b"")
    assert not COMMENT.search(plain.content)
    assert RESUMPTION.decode() not in plain.headers


async def test_no_client_has_a_request_resumed() -> None:
    xargs = {"own": 1, RESUMED_IDS: [1], GRAMMAR_IDS: [1]}
    body = json.dumps(BODIES[CHAT] | {"vllm_xargs": xargs}).encode()
    async with Engines() as engines:
        assert (await engines.post(CHAT, body, b"")).status_code == 200
        (call,) = engines.engine.calls
    assert call.params.extra_args == {"own": 1}
