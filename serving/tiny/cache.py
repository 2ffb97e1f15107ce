"""Keeps a built folder in the user's cache, named after what it was built from."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

_STALE_S = 24 * 3600.0


def cache_root() -> Path:
    """The cache folder: ``$XDG_CACHE_HOME/mistral-serve``, by default ``~/.cache/mistral-
    serve``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mistral-serve"


def content_hash(sources: Path, *values: object) -> str:
    """Sixteen hex digits over every ``.py`` file below ``sources`` and the ``repr`` of values."""
    digest = hashlib.sha256()
    for path in sorted(sources.rglob("*.py")):
        digest.update(f"{path.relative_to(sources)}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    for value in values:
        digest.update(repr(value).encode() + b"\0")
    return digest.hexdigest()[:16]


def _remove_abandoned(root: Path, pattern: str) -> None:
    for path in root.glob(pattern):
        if time.time() - path.stat().st_mtime > _STALE_S:
            shutil.rmtree(path, ignore_errors=True)


def ensure_folder(folder: Path, build: Callable[[Path], None]) -> Path:
    """Returns ``folder``, after calling ``build`` with a temporary folder if it does not exist.

    The temporary folder becomes ``folder`` by one rename after ``build`` returned, so what exists
    under the name is complete. If several processes call this, one builds and the others wait. If
    ``build`` raises, nothing is kept and the exception is passed to the caller.
    """
    if folder.is_dir():
        return folder
    root = folder.parent
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{folder.name}.lock"):
        if folder.is_dir():
            return folder
        _remove_abandoned(root, "*.partial-*")
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=root))
        try:
            build(partial)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return folder
