"""The page at /-/ui, in a real browser."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, FilePayload, Page, expect

from serving.placement import Capacity
from serving.router.replicas.model import Model
from serving.tenants.authentication_config import AuthenticationConfig
from tests.router.test_app import error_of
from tests.support.browser import needs_chromium, running_browser
from tests.support.engines import IsUnavailable, Steered
from tests.support.keys import key_record, keys_of
from tests.support.live_router import MODEL, LiveRouter, StartRouter, starting_routers
from tests.support.stand_in_engine import (
    CHUNKED,
    DONE,
    OK_HEAD,
    WORD,
    chunk,
    server_sent,
    stream_events,
    usage_event,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAD = OK_HEAD % b"text/event-stream" + b"x-prompt-tokens: 120\r\nx-cached-tokens: 96\r\n" + CHUNKED
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=="
)
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
HOSTILE = "<img src=x onerror=alert(1)><b>bold</b>"


class Telling(Steered):
    """Reports cached prompt tokens as vLLM behind our engines does."""

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


async def opened(
    browser: Browser, router: LiveRouter, complaints: list[str] | None = None, **options: Any
) -> Page:
    """Yields the page. `complaints` receives its exceptions and blocked or missing resources."""
    page = await browser.new_page(**options)
    if complaints is not None:
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
    await page.goto(f"{router.url}/-/ui")
    return page


async def ask(page: Page, text: str = "Hello") -> None:
    await page.fill("#text", text)
    await page.click("#send")


async def attach_image(page: Page) -> None:
    image: FilePayload = {"name": "image.png", "mimeType": "image/png", "buffer": PNG}
    await page.set_input_files("#image", image)
    await expect(page.locator("#preview")).to_be_visible()
    await expect(page.locator("#preview")).to_have_js_property("naturalWidth", 1)


async def shows(page: Page, selector: str, text: str) -> None:
    """Waits until the first element that `selector` finds has the text."""
    await expect(page.locator(selector).first).to_contain_text(text, timeout=30_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with running_browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def start_router() -> AsyncIterator[StartRouter]:
    async with starting_routers() as start:
        yield start


@pytest_asyncio.fixture(loop_scope="module")
async def browser(start_router: StartRouter, chromium: Browser) -> AsyncIterator[Browser]:
    """The browser of all tests, whose pages are closed before the test's routers stop."""
    yield chromium
    for context in chromium.contexts:
        await context.close()


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
    complaints: list[str] = []
    page = await opened(browser, router, complaints)
    await shows(page, "#state", "1 model without a replica")
    card = ".model:first-child"
    await expect(page.locator(f"{card} h2")).to_have_text(MODEL)
    for text in (HOSTILE, "2 of 2 up", *(f"{info.host}:{info.port}" for info in router.infos)):
        await shows(page, card, text)
    await shows(page, ".model:last-child", "No replica is up")

    asking = asyncio.create_task(router.chat(**ASK))
    engine = await asked(router)
    await shows(page, f"{card} [data-field=running]", "1")
    await shows(page, f"{card} [data-field=load]", "25 %")
    engine.proceed()
    await asking
    await shows(page, f"{card} [data-field=running]", "0")
    router.directory.update(models[1].model_id, router.infos[:1])
    await shows(page, "#state", "all up")
    router.directory.update(models[1].model_id, [])
    assert not complaints


@needs_chromium
async def test_figures_that_are_old_are_said_to_be(
    start_router: StartRouter, browser: Browser
) -> None:
    router = await start_router(Telling, ui=True)
    page = await opened(browser, router)
    await shows(page, "#state", "all up")
    await page.context.set_offline(True)
    await shows(page, "#state", "the router does not answer: figures are old")
    await ask(page)
    await shows(page, "#error", "The connection to the router broke off.")
    await page.context.set_offline(False)
    await shows(page, "#state", "all up")


@needs_chromium
async def test_a_prompt_with_an_image_streams_and_the_page_says_how_it_was_answered(
    start_router: StartRouter, browser: Browser
) -> None:
    router = await start_router(Telling, ui=True)
    complaints: list[str] = []
    page = await opened(browser, router, complaints)
    await attach_image(page)
    await ask(page, "What is this?")

    engine = await asked(router)
    first, token, last = stream_events(engine.request_id, MODEL)
    engine.begin(first, server_sent(_said(HOSTILE)))
    await shows(page, "#answer", HOSTILE)
    await expect(page.locator("#answer")).not_to_contain_text(WORD.strip())
    engine.send(token + last)
    await shows(page, "#answer", HOSTILE + WORD + WORD.strip())
    engine.end(3)
    await shows(page, "#facts", "3 tokens")

    await shows(page, "#why", "replica-0 answered")
    for fact in ("replica-0", "120 tokens", "96 tokens", "Queue time", "Retries"):
        await shows(page, "#facts", fact)
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
    await shows(page, "[data-field=hits]", "80 %")
    assert not complaints


def _said(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


@needs_chromium
async def test_the_page_says_which_replica_answered_after_another_had_failed(
    start_router: StartRouter, browser: Browser
) -> None:
    router = await start_router(IsUnavailable, Telling, ui=True, placement="round_robin")
    page = await opened(browser, router)
    await ask(page)
    (await asked(router, 1)).answer_whole()
    await shows(page, "#facts", "2 tokens")
    await shows(page, "#why", "replica-1 answered")
    await shows(page, "#why", "1 replica asked before had failed")
    await shows(page, "#state", "1 replica ejected")
    await shows(page, "tbody tr:first-child", "ejected")


@needs_chromium
async def test_an_answer_that_is_stopped_or_breaks_off_is_told(
    start_router: StartRouter, browser: Browser
) -> None:
    router = await start_router(Telling, ui=True)
    page = await opened(browser, router)
    await ask(page)
    engine = await asked(router)
    first, token, _ = stream_events(engine.request_id, MODEL)
    engine.begin(first, token)
    await shows(page, "#answer", WORD.strip())
    await page.click("#stop")
    await shows(page, "#error", "Stopped.")
    await engine.closed.wait()

    await page.click("#send")
    engine = await asked(router)
    engine.begin(first, server_sent({"error": {"message": "The engine ran out of words."}}))
    engine.end_stream()
    await shows(page, "#error", "ran out of words")


@needs_chromium
async def test_a_refusal_is_told_in_words(start_router: StartRouter, browser: Browser) -> None:
    router = await start_router(Telling, ui=True, capacity=Capacity(10_000, 1), max_waiting=1)
    others = [asyncio.create_task(router.chat(**ASK)) for _ in range(2)]
    engine = await asked(router)
    page = await opened(browser, router)
    await shows(page, "[data-field=waiting]", "1")
    await ask(page)
    await shows(page, "#error", "429 queue_full: Too many requests are waiting for")
    await shows(page, "#why", "No replica was asked")
    await shows(page, "#facts", "queue_full")
    await shows(page, "[data-field=errors]", "1, 0")
    engine.proceed()
    (await asked(router)).proceed()
    await asyncio.gather(*others)


@needs_chromium
async def test_an_invalid_request_is_told_in_words(
    start_router: StartRouter, browser: Browser
) -> None:
    router = await start_router(Telling, ui=True)
    page = await opened(browser, router)
    await attach_image(page)
    await ask(page)
    engine = await asked(router)
    error = json.dumps({"error": {"message": "The image is none.", "code": "bad_image"}}).encode()
    engine.transport.write(
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(error), error)
    )
    await shows(page, "#error", "400 bad_image: The image is none.")


@needs_chromium
async def test_the_admin_key_is_asked_for_where_there_is_one(
    start_router: StartRouter, browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("the-admin-key")
    settings = AuthenticationConfig(admin_key_file=str(tmp_path / "key"))
    router = await start_router(Telling, ui=True, authentication=settings)
    page = await opened(browser, router)
    await shows(page, "#state", "the admin key is needed")
    await page.fill("#admin-key", "the-admin-key")
    await shows(page, "#state", "all up")
    await expect(page.locator("#admin-field")).to_be_hidden()


@needs_chromium
async def test_a_tenants_key_is_asked_for_and_kept_nowhere(
    start_router: StartRouter,
    browser: Browser,
    tmp_path: Path,
) -> None:
    keys = keys_of(tmp_path, key_record("sk-search", "default"))
    router = await start_router(Telling, ui=True, authentication=keys)
    page = await opened(browser, router)
    await expect(page.locator("#key-field")).to_be_visible()
    await ask(page)
    await shows(page, "#error", "401 missing_api_key")
    await page.fill("#key", "sk-search")
    await page.click("#send")
    (await asked(router)).answer_whole()
    await shows(page, "#facts", "2 tokens")
    kept = (
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    )
    assert "sk-search" not in await page.evaluate(kept)
    await page.reload()
    await expect(page.locator("#key")).to_have_value("")


@needs_chromium
async def test_nothing_is_wider_than_the_screen(
    start_router: StartRouter, browser: Browser
) -> None:
    models = [Model("mistralai/Mistral-Small-3.2-24B-Instruct-2506", ("a-very-long-alias" * 9,))]
    router = await start_router(
        Telling, Telling, ui=True, models=models, capacity=Capacity(1_234_567, 256)
    )
    cut = (
        "[...document.querySelectorAll('body *')].filter(one => one.offsetParent"
        " && !['INPUT', 'SELECT', 'OPTION', 'METER'].includes(one.tagName)"
        " && one.scrollWidth > one.clientWidth + 1 && one.clientWidth)"
        ".map(one => one.outerHTML.slice(0, 80))"
    )
    for (width, height), scheme in product([(1280, 800), (390, 844)], ["light", "dark"]):
        page = await opened(
            browser,
            router,
            viewport={"width": width, "height": height},
            is_mobile=width < 600,
            color_scheme=scheme,
        )
        await expect(page.locator("tbody tr")).to_have_count(2)
        assert await page.evaluate("document.documentElement.scrollWidth") == width, scheme
        assert await page.evaluate(cut) == [], (width, scheme)
