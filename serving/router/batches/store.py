"""Keeps files and batches in a folder that routers share: on one node, or on a network volume.

Each tenant has a folder of its own, in which a file's name begins with the id of what it is about:

- `file-ID.json`: a file as the API shows it; `file-ID.jsonl`: its content.
- `batch_ID.json`: a batch as the API shows it, written by the router that runs it.
- `batch_ID.creator.json`: what the key that it was created with may do.
- `batch_ID.input.jsonl`: a link to the content of its input, for as long as it has not ended.
- `batch_ID.lock`: locked by the router that runs it. The kernel releases it with the process.
- `batch_ID.cancel`: is there once it is to be cancelled.

Whole files appear by renaming, so that no reader sees half of one.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from serving.router.batches.objects import ENDED, Batch, Creator, FileObject, is_id

T = TypeVar("T", FileObject, Batch)

_ABANDONED_S = 3600
"""The age at which the part of an upload that nothing was added to is removed."""


class BatchStore:
    """Calls block, and raise OSError. Each tenant has an equal share of `max_bytes`; files are
    deleted `keep_s` after they were made, and batches as long after they were created. An uploaded
    file has at most `max_file_bytes`."""

    def __init__(
        self,
        folder: Path,
        keep_s: float,
        max_bytes: int,
        max_file_bytes: int,
        tenants: int = 1,
    ) -> None:
        self.keep_s = int(keep_s)
        self.share_bytes = max_bytes // max(tenants, 1)
        self.max_file_bytes = max_file_bytes
        self.clock: Callable[[], float] = time.time
        self._folder = folder

    def path(self, tenant: str, name: str) -> Path:
        """Returns where something of a tenant is kept."""
        folder = self._folder / tenant
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / name

    def bytes_left(self, tenant: str) -> int:
        """Returns how much more a tenant may store."""
        sizes: dict[int, int] = {}  # by inode, as the input of a batch is a link
        for entry in os.scandir(self.path(tenant, "")):
            with contextlib.suppress(FileNotFoundError):
                stat = entry.stat()
                sizes[stat.st_ino] = stat.st_size
        return self.share_bytes - sum(sizes.values())

    # Files

    def content(self, tenant: str, file_id: str) -> Path:
        return self.path(tenant, f"{file_id}.jsonl")

    def put_file(self, tenant: str, file: FileObject) -> None:
        """Makes a file known whose content is already there."""
        self._write(self.path(tenant, f"{file.id}.json"), file)

    def file(self, tenant: str, file_id: str) -> FileObject | None:
        """Returns a file of the tenant; None if there is none, or it has expired."""
        found = self._read(tenant, file_id, FileObject)
        return None if found is None or found.expires_at <= self.clock() else found

    def delete_file(self, tenant: str, file_id: str) -> bool:
        """Returns False if there was none. A batch keeps the input that it has."""
        if self.file(tenant, file_id) is None:
            return False
        self.path(tenant, f"{file_id}.json").unlink(missing_ok=True)
        self.content(tenant, file_id).unlink(missing_ok=True)
        return True

    # Batches

    def begin(self, tenant: str, batch: Batch, creator: Creator) -> bool:
        """Makes a new batch known, for any router to run. Returns False if its input is gone."""
        self._write(self.path(tenant, f"{batch.id}.creator.json"), creator)
        self.put_batch(tenant, batch)
        try:
            os.link(self.content(tenant, batch.input_file_id), self.input(tenant, batch.id))
        except FileNotFoundError:
            self.path(tenant, f"{batch.id}.json").unlink()
            self.path(tenant, f"{batch.id}.creator.json").unlink()
            return False
        return True

    def input(self, tenant: str, batch_id: str) -> Path:
        return self.path(tenant, f"{batch_id}.input.jsonl")

    def put_batch(self, tenant: str, batch: Batch) -> None:
        self._write(self.path(tenant, f"{batch.id}.json"), batch)

    def batch(self, tenant: str, batch_id: str) -> Batch | None:
        """Returns a batch of the tenant, with the status `cancelling` if it is to be cancelled;
        None if there is none."""
        batch = self._read(tenant, batch_id, Batch)
        if batch is not None and batch.status not in ENDED:
            batch.cancelling_at = self._cancelled_at(tenant, batch_id)
            if batch.cancelling_at is not None:
                batch.status = "cancelling"
        return batch

    def creator(self, tenant: str, batch_id: str) -> Creator:
        """Returns the creator of a batch that is there."""
        content = self.path(tenant, f"{batch_id}.creator.json").read_bytes()
        return msgspec.json.decode(content, type=Creator)

    def cancel(self, tenant: str, batch_id: str) -> None:
        """Asks the router that runs the batch, or will, to cancel it."""
        self.path(tenant, f"{batch_id}.cancel").touch()

    def end(self, tenant: str, batch: Batch) -> None:
        """Keeps a batch as ended: no router runs it any more."""
        self.put_batch(tenant, batch)
        for suffix in ("cancel", "input.jsonl"):
            self.path(tenant, f"{batch.id}.{suffix}").unlink(missing_ok=True)

    def unfinished(self) -> list[tuple[str, str]]:
        """Returns the tenant and id of each batch that has not ended, the oldest first."""
        found = self._folder.glob("*/batch_*.input.jsonl")
        keys = [(path.parent.name, path.name.partition(".")[0]) for path in found]
        return sorted(keys, key=lambda key: key[1])

    @contextlib.contextmanager
    def claimed(self, tenant: str, batch_id: str) -> Iterator[bool]:
        """Whether this process alone may run the batch until the context ends: not if another one
        does, or if it has ended."""
        lock = os.open(
            self.path(tenant, f"{batch_id}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield self.input(tenant, batch_id).exists()
        except BlockingIOError:
            yield False
        finally:
            os.close(lock)

    # Both

    def ids(self, tenant: str, prefix: str) -> list[str]:
        """Returns the ids of a tenant's files (`file-`) or batches (`batch_`), oldest first."""
        found = self.path(tenant, "").glob(f"{prefix}*.json")
        return sorted(path.stem for path in found if is_id(path.stem))

    def expire(self) -> None:
        """Deletes what has expired."""
        now_s = self.clock()
        for folder in [path for path in self._folder.glob("*") if path.is_dir()]:
            tenant = folder.name
            for path in folder.glob("*.part"):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < now_s - _ABANDONED_S:
                        path.unlink()
            for file_id in self.ids(tenant, "file-"):
                file = self._read(tenant, file_id, FileObject)
                if file is not None and file.expires_at <= now_s:
                    self.content(tenant, file_id).unlink(missing_ok=True)
                    self.path(tenant, f"{file_id}.json").unlink(missing_ok=True)
            for batch_id in self.ids(tenant, "batch_"):
                batch = self._read(tenant, batch_id, Batch)
                if batch is not None and max(batch.created_at + self.keep_s, batch.expires_at) <= (
                    now_s
                ):
                    for path in folder.glob(f"{batch_id}.*"):
                        path.unlink(missing_ok=True)

    def _cancelled_at(self, tenant: str, batch_id: str) -> int | None:
        try:
            return int(self.path(tenant, f"{batch_id}.cancel").stat().st_mtime)
        except FileNotFoundError:
            return None

    def _read(self, tenant: str, item_id: str, kind: type[T]) -> T | None:
        if not is_id(item_id):
            return None
        try:
            return msgspec.json.decode(self.path(tenant, f"{item_id}.json").read_bytes(), type=kind)
        except FileNotFoundError:
            return None

    def _write(self, path: Path, item: FileObject | Batch | Creator) -> None:
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            file.write(msgspec.json.encode(item))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
