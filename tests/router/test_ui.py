"""The page at /-/ui, in a real browser."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serving.config import TenantConfig
from serving.placement import Capacity
from serving.router.model import Model
from tests.browser import Browser, Page, needs_chromium, running_browser
from tests.router.engines import IsUnavailable, Steered
from tests.router.live import MODEL, LiveRouter, StartRouter
from tests.router.test_app import error_of
from tests.stand_in_engine import (
    CHUNKED,
    DONE,
    OK_HEAD,
    WORD,
    chunk,
    server_sent,
    stream_events,
    usage_event,
)

HEAD = OK_HEAD % b"text/event-stream" + b"x-prompt-tokens: 120\r\nx-cached-tokens: 96\r\n" + CHUNKED
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=="
)
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
HOSTILE = "<img src=x onerror=alert(1)><b>bold</b>"


class Telling(Steered):
    """Says as vLLM behind our engines does how many tokens of the prompt it had cached."""

    def begin(self, *events: bytes) -> None:
        self.transport.write(HEAD + b"".join(map(chunk, events)))

    def end(self, tokens: int = 2) -> None:
        self.send(usage_event(self.request_id, MODEL, tokens) + DONE)
        self.end_stream()

    def answer_whole(self) -> None:
        first, token, last = stream_events(self.request_id, MODEL)
        self.begin(first, token, last)
        self.end()


async def asked(router: LiveRouter, engine: int = 0) -> Telling:
    telling = await router.asked(engine)
    assert isinstance(telling, Telling)
    return telling


async def ready(browser: Browser, router: LiveRouter) -> Page:
    """The page, where a prompt can be sent."""
    page = await browser.open(f"{router.url}/-/ui")
    await page.wait_for("document.querySelector('#model').value")
    return page


async def ask(page: Page, text: str = "Hello") -> None:
    await page.type("#text", text)
    await page.click("#send")


async def attach_image(page: Page, folder: Path) -> None:
    (folder / "image.png").write_bytes(PNG)
    await page.choose_file("#image", folder / "image.png")
    await page.wait_for("!document.querySelector('#preview').hidden")
    await page.wait_for("document.querySelector('#preview').naturalWidth === 1")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as browser:
        yield browser


async def test_the_page_is_there_only_if_it_is_configured(start_router: StartRouter) -> None:
    assert error_of(await (await start_router()).http.get("/-/ui"), 404)
    router = await start_router(ui=True)
    page = await router.http.get("/-/ui")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in page.headers["content-security-policy"]
    assert "http://" not in page.text and "https://" not in page.text  # no outside assets


@needs_chromium
async def test_the_figures_are_those_of_the_service_as_they_change(
    start_router: StartRouter, browser: Browser
) -> None:
    models = [Model(MODEL, ("small", HOSTILE)), Model("mistral-test/large")]
    router = await start_router(
        *(Telling, Telling),
        ui=True,
        models=models,
        capacity=Capacity(10_000, 4),
        placement="round_robin",
    )
    page = await browser.open(f"{router.url}/-/ui")
    await page.wait_for_text("#state", "1 model without a replica")
    card = ".model:first-child"
    assert (await page.text(f"{card} h2")) == MODEL
    assert HOSTILE in await page.text(card)
    assert "2 of 2 up" in await page.text(card)
    for info in router.infos:
        assert f"{info.host}:{info.port}" in await page.text(card)
    assert "No replica is up" in await page.text(".model:last-child")

    asking = asyncio.create_task(router.chat(**ASK))
    engine = await asked(router)
    await page.wait_for_text(f"{card} [data-field=running]", "1")
    await page.wait_for_text(f"{card} [data-field=load]", "25 %")
    engine.proceed()
    await asking
    await page.wait_for_text(f"{card} [data-field=running]", "0")
    router.directory.update(models[1].model_id, router.infos[:1])
    await page.wait_for_text("#state", "all up")
    router.directory.update(models[1].model_id, [])
    assert not browser.complaints


@needs_chromium
async def test_figures_that_are_old_are_said_to_be(
    start_router: StartRouter, browser: Browser
) -> None:
    router = await start_router(Telling, ui=True)
    page = await browser.open(f"{router.url}/-/ui")
    await page.wait_for_text("#state", "all up")
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    await page.call("Network.enable")
    await page.call("Network.emulateNetworkConditions", offline=True, **conditions)
    await page.wait_for_text("#state", "the router does not answer: figures are old")
    await ask(page)
    await page.wait_for_text("#error", "The connection to the router broke off.")
    await page.call("Network.emulateNetworkConditions", offline=False, **conditions)
    await page.wait_for_text("#state", "all up")


@needs_chromium
async def test_a_prompt_with_an_image_streams_and_the_page_says_how_it_was_answered(
    start_router: StartRouter, browser: Browser, tmp_path: Path
) -> None:
    router = await start_router(Telling, ui=True)
    page = await ready(browser, router)
    await attach_image(page, tmp_path)
    await ask(page, "What is this?")

    engine = await asked(router)
    first, token, last = stream_events(engine.request_id, MODEL)
    engine.begin(first, server_sent(_said(HOSTILE)))
    await page.wait_for_text("#answer", HOSTILE)
    assert WORD.strip() not in await page.text("#answer")
    engine.send(token + last)
    await page.wait_for_text("#answer", HOSTILE + WORD + WORD.strip())
    engine.end(3)
    await page.wait_for_text("#facts", "3 tokens")

    assert "replica-0 answered" in await page.text("#why")
    facts = await page.text("#facts")
    for fact in ("replica-0", "120 tokens", "96 tokens", "Queue time", "Retries"):
        assert fact in facts
    (request,) = router.engines[0].received
    body: dict[str, Any] = json.loads(request.body)
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {
                    "type": "image_url",
                    "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"},
                },
            ],
        }
    ]
    await page.wait_for_text("[data-field=hits]", "80 %")
    assert not browser.complaints


def _said(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


@needs_chromium
async def test_the_page_says_which_replica_answered_after_another_had_failed(
    start_router: StartRouter, browser: Browser
) -> None:
    router = await start_router(IsUnavailable, Telling, ui=True, placement="round_robin")
    page = await ready(browser, router)
    await ask(page)
    (await asked(router, 1)).answer_whole()
    await page.wait_for_text("#facts", "2 tokens")
    assert "replica-1 answered" in await page.text("#why")
    assert "1 replica asked before had failed" in await page.text("#why")
    await page.wait_for_text("#state", "1 replica left out")
    await page.wait_for_text("tbody tr:first-child", "left out")


@needs_chromium
async def test_an_answer_that_is_stopped_or_breaks_off_is_told(
    start_router: StartRouter, browser: Browser
) -> None:
    router = await start_router(Telling, ui=True)
    page = await ready(browser, router)
    await ask(page)
    engine = await asked(router)
    first, token, _ = stream_events(engine.request_id, MODEL)
    engine.begin(first, token)
    await page.wait_for_text("#answer", WORD.strip())
    await page.click("#stop")
    await page.wait_for_text("#error", "Stopped.")
    await engine.closed.wait()

    await page.click("#send")
    engine = await asked(router)
    engine.begin(first, server_sent({"error": {"message": "The engine ran out of words."}}))
    engine.end_stream()
    await page.wait_for_text("#error", "ran out of words")


@needs_chromium
async def test_a_refusal_is_told_in_words(start_router: StartRouter, browser: Browser) -> None:
    router = await start_router(Telling, ui=True, capacity=Capacity(10_000, 1), max_waiting=1)
    others = [asyncio.create_task(router.chat(**ASK)) for _ in range(2)]
    engine = await asked(router)
    page = await browser.open(f"{router.url}/-/ui")
    await page.wait_for_text("[data-field=waiting]", "1")
    await ask(page)
    await page.wait_for_text("#error", "429 queue_full: Too many requests wait for")
    assert "No replica was asked" in await page.text("#why")
    assert "queue_full" in await page.text("#facts")
    await page.wait_for_text("[data-field=errors]", "1, 0")
    engine.proceed()
    (await asked(router)).proceed()
    await asyncio.gather(*others)


@needs_chromium
async def test_an_invalid_request_is_told_in_words(
    start_router: StartRouter, browser: Browser, tmp_path: Path
) -> None:
    router = await start_router(Telling, ui=True)
    page = await ready(browser, router)
    await attach_image(page, tmp_path)
    await ask(page)
    engine = await asked(router)
    error = json.dumps({"error": {"message": "The image is none.", "code": "bad_image"}}).encode()
    engine.transport.write(
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(error), error)
    )
    await page.wait_for_text("#error", "400 bad_image: The image is none.")


@needs_chromium
async def test_a_tenants_key_is_asked_for_and_kept_nowhere(
    start_router: StartRouter,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UI_TEST_KEYS", "sk-search")
    tenants = [TenantConfig(name="search", api_keys_env="UI_TEST_KEYS")]
    router = await start_router(Telling, ui=True, tenants=tenants)
    page = await browser.open(f"{router.url}/-/ui")
    await page.wait_for("!document.querySelector('#key-field').hidden")
    await ask(page)
    await page.wait_for_text("#error", "401 invalid_api_key")
    await page.type("#key", "sk-search")
    await page.click("#send")
    (await asked(router)).answer_whole()
    await page.wait_for_text("#facts", "2 tokens")
    kept = (
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    )
    assert "sk-search" not in await page.evaluate(kept)
    await page.call("Page.reload")
    await page.wait_for("document.querySelector('#key')?.value === ''")


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
async def test_nothing_is_wider_than_the_screen(
    start_router: StartRouter, browser: Browser, width: int, height: int, dark: bool
) -> None:
    models = [Model("mistralai/Mistral-Small-3.2-24B-Instruct-2506", ("a-very-long-alias" * 9,))]
    router = await start_router(
        Telling, Telling, ui=True, models=models, capacity=Capacity(1_234_567, 256)
    )
    page = await browser.open(f"{router.url}/-/ui", width=width, height=height, dark=dark)
    await page.wait_for("document.querySelectorAll('tbody tr').length === 2")
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    cut = (
        "[...document.querySelectorAll('body *')].filter(one => one.offsetParent"
        " && !['INPUT', 'SELECT', 'OPTION', 'METER'].includes(one.tagName)"
        " && one.scrollWidth > one.clientWidth + 1 && one.clientWidth)"
        ".map(one => one.outerHTML.slice(0, 80))"
    )
    assert await page.evaluate(cut) == []
