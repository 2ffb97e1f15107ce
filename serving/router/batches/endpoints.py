"""The endpoints of files and batches."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Depends, FastAPI, Request, Response
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse

from serving.batch.lines import URLS
from serving.requests.metadata import METADATA, is_metadata
from serving.router.batches import errors
from serving.router.batches.objects import (
    COMPLETION_WINDOW,
    COMPLETION_WINDOW_S,
    ENDED,
    Batch,
    Creator,
    FileObject,
    OutputExpiresAfter,
    new_id,
)
from serving.router.batches.runner import BatchRunner
from serving.router.batches.upload import Upload
from serving.router.http.asgi import read_body
from serving.router.http.authentication import Authentication
from serving.router.http.authentication_errors import endpoint_not_allowed
from serving.router.http.body_budget import BodyBudget
from serving.router.http.errors import ApiError, invalid_value, wrong_value
from serving.router.http.openapi import Order, body_of, limit_of, whole_number

T = TypeVar("T")

FILES = "/v1/files"
BATCHES = "/v1/batches"

_MOST_BODY_BYTES = 64 * 1024
_MOST_BATCHES_LISTED, _MOST_FILES_LISTED = 100, 10_000
_KEEP_S = range(3600, 10**9)
_ANCHOR = "created_at"
_KEPT = f"a whole number of seconds, {_KEEP_S[0]} or more"

_TEXT = {"type": "string"}
_UPLOAD = body_of(
    "multipart/form-data",
    {"purpose": {**_TEXT, "enum": ["batch"]}, "file": {**_TEXT, "format": "binary"}},
)
_CREATE = body_of(
    "application/json",
    {
        "input_file_id": _TEXT,
        "endpoint": {**_TEXT, "enum": list(URLS)},
        "completion_window": {**_TEXT, "enum": [COMPLETION_WINDOW]},
    },
    metadata={"type": ["object", "null"], "additionalProperties": _TEXT},
    output_expires_after={
        "type": ["object", "null"],
        "properties": {
            "anchor": {**_TEXT, "enum": [_ANCHOR]},
            "seconds": {"type": "integer", "minimum": _KEEP_S[0], "maximum": _KEEP_S[-1]},
        },
        "required": ["anchor", "seconds"],
    },
)
_CONTENT: dict[str, Any] = {"content": {"application/octet-stream": {}}}

log = logging.getLogger(__name__)


class _ExpiresAfter(msgspec.Struct):
    anchor: Any = None
    seconds: Any = None


class _NewBatch(msgspec.Struct):
    input_file_id: str | None = None
    endpoint: str | None = None
    completion_window: str | None = None
    metadata: dict[str, str] | None = None
    output_expires_after: _ExpiresAfter | None = None

    def kept_output(self) -> OutputExpiresAfter | None:
        """Raises ApiError 400."""
        given = self.output_expires_after
        if given is None:
            return None
        if given.anchor != _ANCHOR:
            raise wrong_value("output_expires_after.anchor", _ANCHOR)
        if type(given.seconds) is not int or given.seconds not in _KEEP_S:
            raise wrong_value("output_expires_after.seconds", _KEPT)
        return OutputExpiresAfter(given.seconds)


def add_endpoints(api: FastAPI, runner: BatchRunner, authentication: Authentication) -> None:
    store = runner.store

    FromTenant = Annotated[str, Depends(authentication.tenant)]

    @api.post(FILES, openapi_extra=_UPLOAD)
    async def upload_file(of: FromTenant, request: Request) -> Response:
        """Uploads a file of requests, one per line, in the format of OpenAI's batches."""
        left_bytes = await _call(store.bytes_left, of)
        most_bytes = min(store.max_file_bytes, left_bytes)
        if most_bytes <= 0:
            raise errors.no_room(store.share_bytes)
        file_id = new_id("file-")
        content = store.content(of, file_id)
        part = content.with_suffix(".part")
        try:
            upload = Upload(request.headers.get("content-type"), part, most_bytes)
            try:
                with _store_errors():
                    await upload.receive(request.stream())
            except ApiError as error:
                if error.status == 413 and left_bytes < store.max_file_bytes:
                    raise errors.no_room(store.share_bytes) from None
                raise
            except ClientDisconnect:
                return Response(status_code=400)  # to no one
            file = _file_of(upload, file_id, int(store.clock()), store.keep_s)
            with _store_errors():
                part.rename(content)
                await asyncio.to_thread(store.put_file, of, file)
        finally:
            part.unlink(missing_ok=True)
        return _json(file)

    @api.get(FILES)
    async def list_files(
        of: FromTenant,
        purpose: str | None = None,
        limit: Annotated[str, whole_number(_MOST_FILES_LISTED)] = str(_MOST_FILES_LISTED),
        order: Order = "desc",
        after: str | None = None,
    ) -> Response:
        """Lists the tenant's files."""
        if order not in ("asc", "desc"):
            raise wrong_value("order", "asc or desc")
        most = limit_of(limit, _MOST_FILES_LISTED)
        ids = await _call(store.ids, of, "file-")

        def take() -> tuple[list[FileObject], bool]:
            return _page(
                _behind(ids, after, order == "desc"),
                lambda file_id: store.file(of, file_id),
                lambda file: purpose in (None, file.purpose),
                most,
            )

        return _list(*await _call(take))

    @api.get(FILES + "/{file_id}")
    async def get_file(of: FromTenant, file_id: str) -> Response:
        """Returns what is known of a file."""
        return _json(await found_file(of, file_id))

    @api.get(FILES + "/{file_id}/content", response_class=Response, responses={200: _CONTENT})
    async def get_file_content(of: FromTenant, file_id: str) -> Response:
        """Returns the content of a file."""
        await found_file(of, file_id)
        return FileResponse(store.content(of, file_id), media_type="application/octet-stream")

    @api.delete(FILES + "/{file_id}")
    async def delete_file(of: FromTenant, file_id: str) -> Response:
        """Deletes a file. A batch that has begun keeps its input."""
        if not await _call(store.delete_file, of, file_id):
            raise errors.file_not_found(file_id)
        return _json({"id": file_id, "object": "file", "deleted": True})

    async def found_file(of: str, file_id: str) -> FileObject:
        file = await _call(store.file, of, file_id)
        if file is None:
            raise errors.file_not_found(file_id)
        return file

    @api.post(BATCHES, openapi_extra=_CREATE)
    async def create_batch(request: Request) -> Response:
        """Has the requests of a file answered within 24 hours, in what other requests leave."""
        caller = await authentication.caller(request.scope)
        of = caller.tenant.name
        held = BodyBudget(_MOST_BODY_BYTES).hold()  # small beside the budget of those relayed
        body = await read_body(request.headers.raw, request.receive, _MOST_BODY_BYTES, held)
        wanted = _new_batch(body)
        assert wanted.input_file_id is not None and wanted.endpoint is not None
        output_expires_after = wanted.kept_output()
        if not caller.may_ask(wanted.endpoint):
            raise endpoint_not_allowed(wanted.endpoint)
        file = await _call(store.file, of, wanted.input_file_id)
        if file is None:
            raise errors.input_not_found(wanted.input_file_id)
        if file.purpose != "batch":
            raise errors.input_is_output(wanted.input_file_id)
        if await _call(store.bytes_left, of) <= 0:
            raise errors.no_room(store.share_bytes)
        now_s = int(store.clock())
        batch = Batch(
            id=new_id("batch_"),
            endpoint=wanted.endpoint,
            input_file_id=file.id,
            created_at=now_s,
            expires_at=now_s + COMPLETION_WINDOW_S,
            metadata=wanted.metadata,
            output_expires_after=output_expires_after,
        )
        creator = Creator(
            caller.key_id,
            None if caller.models is None else sorted(caller.models),
            None if caller.endpoints is None else list(caller.endpoints),
        )
        if not await _call(store.begin, of, batch, creator):
            raise errors.input_not_found(file.id)
        runner.look()
        return _json(batch)

    @api.get(BATCHES)
    async def list_batches(
        of: FromTenant,
        limit: Annotated[str, whole_number(_MOST_BATCHES_LISTED)] = "20",
        after: str | None = None,
    ) -> Response:
        """Lists the tenant's batches, the newest first."""
        most = limit_of(limit, _MOST_BATCHES_LISTED)
        ids = await _call(store.ids, of, "batch_")

        def take() -> tuple[list[Batch], bool]:
            newest_first = _behind(ids, after, reverse=True)
            return _page(newest_first, lambda one: store.batch(of, one), lambda _: True, most)

        return _list(*await _call(take))

    @api.get(BATCHES + "/{batch_id}")
    async def get_batch(of: FromTenant, batch_id: str) -> Response:
        """Returns a batch and its progress."""
        return _json(await found_batch(of, batch_id))

    @api.post(BATCHES + "/{batch_id}/cancel")
    async def cancel_batch(of: FromTenant, batch_id: str) -> Response:
        """Cancels a batch. What was answered by then is in its output."""
        batch = await found_batch(of, batch_id)
        if batch.status in ENDED:
            raise errors.batch_has_ended(batch_id, batch.status)
        await _call(store.cancel, of, batch_id)
        runner.look()
        return _json(await found_batch(of, batch_id))

    async def found_batch(of: str, batch_id: str) -> Batch:
        batch = await _call(store.batch, of, batch_id)
        if batch is None:
            raise errors.batch_not_found(batch_id)
        return batch


def _file_of(upload: Upload, file_id: str, now_s: int, keep_s: int) -> FileObject:
    """Returns the file of a complete form. Raises ApiError for what its fields say."""
    fields = upload.fields
    if "purpose" not in fields:
        raise errors.missing("purpose")
    if fields["purpose"] != "batch":
        raise wrong_value("purpose", "batch: this service keeps no other files")
    if upload.filename is None:
        raise errors.missing("file")
    if not upload.filename.lower().endswith(".jsonl"):
        raise wrong_value("file", "a file of JSON lines, whose name ends with .jsonl")
    seconds = fields.get("expires_after[seconds]")
    if seconds is not None:
        if fields.get("expires_after[anchor]") != _ANCHOR:
            raise wrong_value("expires_after[anchor]", _ANCHOR)
        if not seconds.isdecimal() or len(seconds) > 9 or int(seconds) not in _KEEP_S:
            raise wrong_value("expires_after[seconds]", _KEPT)
        keep_s = min(keep_s, int(seconds))
    return FileObject(
        id=file_id,
        bytes=upload.bytes,
        created_at=now_s,
        expires_at=now_s + keep_s,
        filename=upload.filename[:255],
        purpose="batch",
    )


def _new_batch(body: bytes) -> _NewBatch:
    try:
        wanted = msgspec.json.decode(body, type=_NewBatch)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_value(None, f"The request is not valid: {str(error)[:200]}.") from None
    for field in ("input_file_id", "endpoint", "completion_window"):
        if getattr(wanted, field) is None:
            raise errors.missing(field)
    if wanted.endpoint not in URLS:
        raise wrong_value("endpoint", f"one of {', '.join(URLS)}")
    if wanted.completion_window != COMPLETION_WINDOW:
        raise wrong_value("completion_window", COMPLETION_WINDOW)
    if wanted.metadata is not None and not is_metadata(wanted.metadata):
        raise wrong_value("metadata", METADATA)
    return wanted


def _behind(ids: Sequence[str], after: str | None, reverse: bool) -> list[str]:
    """Returns the ids behind `after` in the order of the list, also if that one is gone."""
    if after is None:
        return sorted(ids, reverse=reverse)
    return sorted(
        (one for one in ids if (one < after if reverse else one > after)), reverse=reverse
    )


def _page(
    ids: Sequence[str], get: Callable[[str], T | None], wanted: Callable[[T], bool], most: int
) -> tuple[list[T], bool]:
    """Returns the first `most` items, and whether there are more."""
    page: list[T] = []
    for one in ids:
        item = get(one)
        if item is not None and wanted(item):
            if len(page) == most:
                return page, True
            page.append(item)
    return page, False


def _list(page: Sequence[FileObject | Batch], has_more: bool) -> Response:
    ends = {"first_id": page[0].id, "last_id": page[-1].id} if page else {}
    nothing = {"first_id": None, "last_id": None}
    return _json({"object": "list", "data": page, **nothing, **ends, "has_more": has_more})


def _json(item: Any) -> Response:
    return Response(msgspec.json.encode(item), headers={"content-type": "application/json"})


async def _call(call: Callable[..., T], *arguments: Any) -> T:
    """Calls the store in a thread. Raises ApiError 503 if it fails."""
    with _store_errors():
        return await asyncio.to_thread(call, *arguments)


@contextlib.contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.error("files and batches: %s: %s", error.filename, error.strerror or error)
        raise errors.store_failed() from None
