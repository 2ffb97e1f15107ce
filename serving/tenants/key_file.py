"""The file with the API keys of all tenants, which `mistral-serve keys` writes and routers read."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from serving.tenants.api_key import ApiKey

_NEW_FILE_MODE = 0o600


class KeyFileError(Exception):
    """The keys file is unusable; the message says why, and has nothing of its content but ids."""


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The form of the file: JSON, of which a part is never taken for the whole."""

    keys: tuple[ApiKey, ...]


_decode = msgspec.json.Decoder(_KeyFile).decode


def parse(text: bytes) -> tuple[ApiKey, ...]:
    """Reads the content of a keys file. Raises KeyFileError."""
    try:
        keys = _decode(text).keys
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeyFileError(f"is no keys file as `mistral-serve keys` writes it: {error}") from None
    for field in ("id", "sha256"):
        seen: dict[str, ApiKey] = {}
        for key in keys:
            other = seen.setdefault(getattr(key, field), key)
            if other is not key:
                raise KeyFileError(f"has two keys with one {field}: {other.id} and {key.id}")
    return keys


def read(path: Path) -> tuple[ApiKey, ...]:
    """Reads a keys file. Raises KeyFileError, without the file too."""
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise KeyFileError(f"cannot be read: {error.strerror}") from None


def change(
    path: Path, changed: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]
) -> tuple[ApiKey, ...]:
    """Replaces the keys in the file by those that `changed` makes of them, and returns them. A file
    that does not exist has none. Readers see the old file or the new one, and a second change waits
    for the first. Raises KeyFileError, and what `changed` raises."""
    path = path.resolve()  # a link stays one
    with _locked(path.parent):
        keys = changed(read(path) if path.exists() else ())
        text = msgspec.json.format(msgspec.json.encode(_KeyFile(keys)), indent=2) + b"\n"
        parse(text)
        try:
            _replace(path, text)
        except OSError as error:
            raise KeyFileError(f"cannot be written: {error.strerror}") from None
    return keys


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of the folder, as the file is another one after each change."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise KeyFileError(f"has no folder that can be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: bytes) -> None:
    mode = path.stat().st_mode & 0o777 if path.exists() else _NEW_FILE_MODE
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
            os.fchmod(descriptor, mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
