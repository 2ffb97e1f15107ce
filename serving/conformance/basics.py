"""What any OpenAI client does first: list, ask, sample."""

import httpx

from serving import model_cards as doc
from serving.tiny import answers as own

from .cases import CUT_TOKENS, asked
from .check import Theme
from .expect import expect
from .needs import api_key, no_api_key, tiny
from .server import CHAT, Server, ok, refused

theme = Theme("basics")
check = theme.check


@check()
async def the_list_of_models_has_ids_and_context_lengths(server: Server) -> None:
    """The list has the model with an id that is usable as `model`, and with its `max_model_len`."""
    models = ok(await server.http.get("/v1/models"))
    expect(models.get("object") == "list", f"object {models.get('object')!r}")
    entries = {model["id"]: model for model in models["data"]}
    expect(server.model.id in entries, f"{server.model.id} is not among {list(entries)}")
    length = entries[server.model.id].get("max_model_len")
    expect(isinstance(length, int), f"max_model_len is {length!r}")


@check()
async def the_model_can_be_asked_for_by_its_id(server: Server) -> None:
    """GET /v1/models/ID finds a model, also one whose id has a slash (OpenAI's API)."""
    model = ok(await server.http.get(f"/v1/models/{server.model.id}"))
    expect(model.get("id") == server.model.id, f"id {model.get('id')!r}")


@check(no_api_key)
async def any_key_is_taken_where_none_is_asked(server: Server) -> None:
    """A server without keys accepts the "EMPTY" and "token" that the cards' clients send."""
    for key in ("EMPTY", "token"):
        headers = {"authorization": f"Bearer {key}"}
        body = {"model": server.model.id, **server.body("a greeting")}
        expect(ok(await server.http.post(CHAT, json=body, headers=headers))["choices"], "no answer")


@check(api_key)
async def a_wrong_key_gets_a_401_and_health_needs_none(server: Server) -> None:
    """A wrong or missing key gets a 401; `/health`, which load balancers ask, needs no key."""
    async with httpx.AsyncClient(base_url=server.http.base_url) as http:
        body = {"model": server.model.id, **server.body("a greeting")}
        wrong = {"authorization": "Bearer wrong"}
        refused(await http.post(CHAT, json=body, headers=wrong), 401)
        refused(await http.post(CHAT, json=body), 401)
        health = await http.get("/health")
        expect(health.status_code == 200, f"/health without a key: {health.status_code}")


@check()
async def a_model_and_messages_are_enough(server: Server) -> None:
    """A request needs no sampling parameter (2501 card)."""
    answer = await server.chat(asked(own.IDENTITY_QUESTIONS[0]))
    expect(answer.content, f"no text: {answer.shown}")


@check()
async def the_sampling_that_the_card_sends_is_taken(server: Server) -> None:
    """The card's sampling is accepted, also where its `max_tokens` is the whole context or more."""
    answer = await server.chat(asked("Hello", **server.model.family.sampling))
    expect(answer.content, f"no text: {answer.shown}")


@check()
async def a_finished_answer_says_stop(server: Server) -> None:
    """The text is in `content`, and `tool_calls` is absent, null or empty (OpenAI's API)."""
    answer = await server.answer("a greeting")
    expect(answer.content and not answer.calls, answer.shown)
    expect(answer.finish_reason == "stop", answer.shown)


@check()
async def a_cut_answer_says_length(server: Server) -> None:
    """`max_tokens` bounds the answer, and the finish reason is `length` (OpenAI's API)."""
    answer = await server.answer("text cut at max_tokens")
    expect(answer.finish_reason == "length", answer.shown)
    expect(answer.completion_tokens == CUT_TOKENS, f"{answer.completion_tokens} tokens")


@check()
async def max_completion_tokens_is_max_tokens(server: Server) -> None:
    """`max_completion_tokens`, the newer name of `max_tokens`, bounds the answer too (OpenAI's
    API)."""
    answer = await server.chat(asked("Count from 1 to 100.", max_completion_tokens=CUT_TOKENS))
    expect(answer.completion_tokens == CUT_TOKENS, f"{answer.completion_tokens} tokens")


@check()
async def a_stop_string_ends_the_answer_and_is_left_out(server: Server) -> None:
    """The answer ends before the stop string, with the finish reason `stop` (OpenAI's API)."""
    answer = await server.answer("text up to a stop string")
    expect(answer.content, f"no text: {answer.shown}")
    expect(answer.finish_reason == "stop" and ", 5" not in answer.content, answer.shown)


@check()
async def two_choices_come_when_asked_for(server: Server) -> None:
    """A request with `n` gets as many choices, each with its index (OpenAI's API)."""
    body = asked("Hello", n=2, temperature=0.15, max_tokens=CUT_TOKENS)
    choices = ok(await server.post(CHAT, body))["choices"]
    expect([choice["index"] for choice in choices] == [0, 1], f"{len(choices)} choices")


@check()
async def every_answer_has_a_request_id(server: Server) -> None:
    """The header `x-request-id` is set, and is the client's own if it sent one (OpenAI's API)."""
    answer = await server.answer("a greeting")
    expect(answer.headers.get("x-request-id"), "no x-request-id")
    body = {"model": server.model.id, **asked("Hello", max_tokens=1)}
    response = await server.http.post(CHAT, json=body, headers={"x-request-id": "mine-1"})
    expect(response.headers.get("x-request-id") == "mine-1", "the client's own is not given back")


@check()
async def the_alphabet_sentence_ends(server: Server) -> None:
    """The answer to the 3.2 card's instruction ends by itself, without a loop."""
    answer = await server.chat(asked(doc.ALPHABET_PROMPT, temperature=0.15))
    expect(answer.finish_reason == "stop", answer.shown)


@check(tiny)
async def the_embedded_model_gives_the_answers_it_learnt(server: Server) -> None:
    """The embedded model's text arrives unchanged."""
    for prompt, expected in (
        ("Hello", own.GREETING_ANSWER),
        (doc.ALPHABET_PROMPT, doc.ALPHABET_ANSWER),
        (doc.FRENCH_PROMPT, doc.FRENCH_LIST),
        ("Count from 1 to 100.", own.counting(100)),
    ):
        answer = await server.chat(asked(prompt, temperature=0))
        expect(answer.content == expected, f"to {prompt!r}: {answer.shown}")


@check(tiny)
async def all_scripts_arrive_whole(server: Server) -> None:
    """Japanese, right-to-left Arabic and emoji arrive unchanged."""
    answer = await server.answer("text in several scripts")
    expect(answer.content == own.SCRIPTS_ANSWER, answer.shown)
