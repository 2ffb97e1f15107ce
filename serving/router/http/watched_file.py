"""A small file that is read anew whenever it changes."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from serving.tenants.key_file import KeyFileError

T = TypeVar("T")

log = logging.getLogger(__name__)


class WatchedFile(Generic[T]):
    """The value of the file when it was last read well. Looking at it costs a `stat`, which also
    shows that a link on its path leads elsewhere, as Kubernetes updates a mounted Secret."""

    def __init__(self, path: str, name: str, parse: Callable[[bytes], T]) -> None:
        """`parse` raises KeyFileError. Raises RuntimeError if there is no value yet."""
        self.failing = False
        """Whether the file is unusable, so that the value is an older one."""
        self._path = Path(path)
        self._name = name
        self._parse = parse
        self._version = version_of(self._path)
        try:
            self.value = self._read()
        except KeyFileError as error:
            raise RuntimeError(f"{name}: the file {path} {error} where the router runs") from None

    def look(self) -> None:
        """Reads the file if it is another one than before."""
        version = version_of(self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self.value = self._read()
        except KeyFileError as error:
            self.failing = True
            log.error(
                "%s: the file %s %s; what it had before stays in force",
                self._name,
                self._path,
                error,
            )
        else:
            self.failing = False
            log.info("%s: the file %s was read anew", self._name, self._path)

    def _read(self) -> T:
        try:
            text = self._path.read_bytes()
        except OSError as error:
            raise KeyFileError(f"cannot be read ({error.strerror})") from None
        return self._parse(text)


def version_of(path: Path) -> tuple[int, int, int] | None:
    """Returns what shows that a file is another one, or has changed; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
