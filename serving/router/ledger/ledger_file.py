"""Writes one router's part of the ledger's folder."""

import os
from datetime import date
from pathlib import Path

from serving.ledger.entry import Snapshot, encode
from serving.ledger.folder import LedgerFolder, replace, segment_name, snapshot_name


class LedgerFile:
    """The segments and the snapshot of this router process."""

    def __init__(self, folder: Path, first: Snapshot) -> None:
        """Writes the `first` snapshot, so that the router is missed whenever it is killed. Raises
        OSError if the folder cannot be made or written to."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._router = first.router
        self._snapshot = folder / snapshot_name(first.router)
        replace(self._snapshot, encode(first))
        self._is_written = True

    def append(self, day: date, lines: bytes) -> bool:
        """Appends lines to the day's segment; they are on the disk afterwards. Returns False, once
        and without having written, if another router took this one for dead and has closed the
        entries of its last snapshot. Raises OSError; no part of a line is in the segment then."""
        if self._is_written and not self._snapshot.exists() and self._is_closed():
            self._is_written = False
            return False
        if lines:
            self._append(self._folder / segment_name(self._router, day), lines)
        return True

    def show(self, snapshot: Snapshot) -> None:
        """Replaces the snapshot, on the disk too. What has ended must be appended before. Raises
        OSError."""
        replace(self._snapshot, encode(snapshot))
        self._is_written = True

    def _is_closed(self) -> bool:
        return any(gap.router == self._router for gap in LedgerFolder(self._folder).closed())

    def close(self) -> None:
        """Removes the snapshot: nothing is in flight any more. Raises OSError."""
        self._snapshot.unlink(missing_ok=True)

    def _append(self, path: Path, lines: bytes) -> None:
        with path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                if file.write(lines) != len(lines):
                    raise OSError("the disk is full")
                os.fdatasync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
