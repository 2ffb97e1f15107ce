"""Copies of adapters' files on an engine's disk, which no one changes while an engine knows them.

vLLM reads an adapter's files again whenever it needs them, and dies if they are gone by then. Its
caches know an adapter by name and path, so other weights under the same ones would get the answers
of the former. A copy has the digest of its content for a name, and its tensors the names that vLLM
has for the model's modules.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import struct
import tempfile
from pathlib import Path

from serving.adapters.adapter import Version, folder_of
from serving.adapters.files import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    AdapterError,
    DigestReader,
    read_header,
)
from serving.adapters.fit import canonical_name
from serving.catalogue.memory import Network

_ALIGNMENT = 8
_LOCK = ".lock"


class AdapterStore:
    """A folder that the engines of a node share. Each holds a lock on the copies that it knows,
    which ends with its process; who drops a copy deletes it if no one else holds it."""

    def __init__(self, folder: Path, network: Network) -> None:
        """Deletes what engines that were killed have left. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._network = network
        self._locks: dict[str, int] = {}
        for lock in folder.glob(f"*{_LOCK}"):
            self._delete_if_unused(lock.name.removesuffix(_LOCK))

    def keep(self, version: Version) -> Path:
        """Copies the files of a version, unless they are here, and keeps them until `drop`. Raises
        AdapterError."""
        digest = version.digest
        try:
            self._hold(digest)
            copy = self._folder / digest
            if not copy.is_dir():
                self._copy(version, copy)
        except BaseException as error:
            self.drop(digest)
            if isinstance(error, OSError):
                reason = error.strerror or error
                raise AdapterError(f"{version.source} cannot be copied: {reason}") from None
            raise
        return copy

    def drop(self, digest: str) -> None:
        descriptor = self._locks.pop(digest, None)
        if descriptor is not None:
            os.close(descriptor)
            self._delete_if_unused(digest)

    def close(self) -> None:
        for digest in list(self._locks):
            self.drop(digest)

    def _hold(self, digest: str) -> None:
        """Holds the lock of a copy, whose file another engine may delete meanwhile."""
        path = self._folder / f"{digest}{_LOCK}"
        while digest not in self._locks:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if _is_open_file(path, descriptor):
                self._locks[digest] = descriptor
            else:
                os.close(descriptor)

    def _delete_if_unused(self, digest: str) -> None:
        path = self._folder / f"{digest}{_LOCK}"
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_open_file(path, descriptor):
                    shutil.rmtree(self._folder / digest, ignore_errors=True)
                    path.unlink()
            finally:
                os.close(descriptor)

    def _copy(self, version: Version, copy: Path) -> None:
        source = folder_of(version.source, version.revision)
        digest = hashlib.sha256()
        partial = Path(tempfile.mkdtemp(prefix=f"{version.digest}.", dir=self._folder))
        try:
            with DigestReader(source / CONFIG_FILE, digest) as file:
                (partial / CONFIG_FILE).write_bytes(file.read())
            with (
                DigestReader(source / WEIGHTS_FILE, digest) as file,
                (partial / WEIGHTS_FILE).open("wb") as written,
            ):
                header, _ = read_header(file)
                written.write(self._renamed(header))
                shutil.copyfileobj(file, written, 1024**2)
            if DigestReader.text(digest) != version.digest:
                raise AdapterError(
                    f"{version.source} has other files than when it was checked: never write over "
                    "an adapter's files; make a new folder and declare that"
                )
            with contextlib.suppress(FileExistsError):
                partial.rename(copy)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _renamed(self, header: dict[str, object]) -> bytes:
        """Returns the header of a safetensors file with vLLM's names of the tensors."""
        try:
            names = {
                name if name.startswith("__") else canonical_name(name, self._network): tensor
                for name, tensor in header.items()
            }
        except ValueError as error:
            raise AdapterError(f"the model has no place for {error}") from None
        text = json.dumps(names).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        return struct.pack("<Q", len(text)) + text


def _is_open_file(path: Path, descriptor: int) -> bool:
    """Whether a path still leads to the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
