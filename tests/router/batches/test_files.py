"""Files through OpenAI's client, and through clients that are wrong."""

import asyncio
from pathlib import Path

import httpx
import openai
import pytest

from serving.config import BatchesConfig
from tests.router.test_app import error_of
from tests.support.batch_files import begun, ended, lines
from tests.support.engines import Engine
from tests.support.live_router import LiveRouter, StartRouter

PATH = "/v1/files"
PURPOSE = {"purpose": "batch"}


async def upload(router: LiveRouter, content: bytes, name: str = "in.jsonl") -> httpx.Response:
    return await router.http.post(PATH, files={"file": (name, content)}, data=PURPOSE)


def kept(folder: Path) -> list[Path]:
    """Returns all files below the folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def test_a_file_comes_back_as_it_was_sent(router: LiveRouter) -> None:
    content = lines(3) + b"\r\n--not a boundary\r\n"
    files = router.openai.files
    sent = await files.create(
        file=("in.jsonl", content),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (sent.filename, sent.bytes, sent.purpose) == ("in.jsonl", len(content), "batch")
    assert sent.expires_at == sent.created_at + 3600
    assert await files.retrieve(sent.id) == sent
    assert (await files.content(sent.id)).content == content
    assert [one async for one in files.list(purpose="batch", order="asc")] == [sent]
    assert [one async for one in files.list(purpose="batch_output")] == []
    assert (await files.delete(sent.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await files.content(sent.id)


async def test_a_file_may_have_any_name(router: LiveRouter) -> None:
    assert (await upload(router, b"{}", "日本.jsonl")).json()["filename"] == "日本.jsonl"
    part = b'--b\r\ncontent-disposition: form-data; name="\xff"; filename="\xfe"\r\n\r\n\r\n--b--'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = await router.http.post(PATH, content=part, headers=headers)
    assert error_of(response, 400)["param"] == "purpose"


async def test_files_are_listed_in_pages(router: LiveRouter) -> None:
    files = router.openai.files
    ids = [(await files.create(file=("a.jsonl", b"{}"), purpose="batch")).id for _ in range(5)]
    assert [one.id async for one in files.list(limit=2)] == ids[::-1]
    assert [one.id async for one in files.list(limit=2, order="asc")] == ids


async def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(
    start_router: StartRouter, tmp_path: Path
) -> None:
    config = BatchesConfig(folder=str(tmp_path), max_file_mib=1 / 1024, max_bytes=1500)
    router = await start_router(Engine, batches=config)
    assert error_of(await upload(router, b"x" * 1025), 413)["code"] == "file_too_large"
    assert (await upload(router, b"x" * 1000)).status_code == 200
    assert error_of(await upload(router, b"x" * 1000), 413)["code"] == "storage_limit_exceeded"
    assert [path.suffix for path in kept(tmp_path)] == [".json", ".jsonl"]


async def test_an_upload_is_not_bound_by_the_limit_on_other_requests(router: LiveRouter) -> None:
    content = b"x" * 1_000_000  # five times MAX_BODY_BYTES
    file = (await upload(router, content)).json()
    assert (await router.http.get(f"{PATH}/{file['id']}/content")).content == content


async def test_what_is_no_form_with_a_file_is_told_what_is_wrong(
    router: LiveRouter, tmp_path: Path
) -> None:
    post, multipart = router.http.post, "multipart/form-data; boundary=b"
    cut = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\nhalf'
    for content_type, body in (
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        (multipart, b"no boundary"),
        (multipart, cut),
    ):
        response = await post(PATH, content=body, headers={"content-type": content_type})
        assert error_of(response, 400)["code"] == "invalid_form"
    wrong = [
        await post(PATH, files={"file": ("a.jsonl", b"{}")}),
        await post(PATH, files={"file": ("a.jsonl", b"{}")}, data={"purpose": "vision"}),
        await post(PATH, files={"other": ("a.jsonl", b"{}")}, data=PURPOSE),
        await upload(router, b"{}", "a.txt"),
    ]
    params = [error_of(response, 400)["param"] for response in wrong]
    assert params == ["purpose", "purpose", "file", "file"]
    assert not kept(tmp_path)


async def test_a_batch_keeps_an_input_that_is_deleted(router: LiveRouter) -> None:
    batch = await begun(router.openai, lines(20))
    await router.openai.files.delete(batch.input_file_id)
    assert (await ended(router.openai, batch.id)).status == "completed"


async def test_without_a_disk_the_answer_is_503_and_other_requests_work(
    start_router: StartRouter, caplog: pytest.LogCaptureFixture
) -> None:
    router = await start_router(Engine, batches=BatchesConfig(folder="/proc/nowhere"))
    for response in await asyncio.gather(
        upload(router, b"{}"), router.http.get(PATH), router.http.get("/v1/batches")
    ):
        assert error_of(response, 503)["code"] == "batch_store_failed"
        assert response.headers["retry-after"]
    assert (await router.chat(messages=[])).status_code == 200
    assert "batches" in caplog.text


async def test_they_can_be_turned_off(start_router: StartRouter) -> None:
    router = await start_router(Engine, batches=BatchesConfig(max_bytes=0))
    assert error_of(await router.http.get(PATH), 404)["code"] == "not_found"
