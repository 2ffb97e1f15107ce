"""The file with one line per relayed request."""

import itertools
import logging
from pathlib import Path

from serving import serve_log

log = logging.getLogger(__name__)


class RequestLog:
    """Writes each line at once. When the file is full it is renamed to `path`.1, and older ones
    likewise.

    The standard library's rotating handler takes whole log records, which cost ten times as much.
    """

    def __init__(self, path: Path, max_bytes: int, kept_files: int) -> None:
        """Opens the log. With 0 for either number, the file grows without bound. Raises OSError."""
        self.path = path
        self._max_bytes = max_bytes if kept_files else 0
        self._kept_files = kept_files
        self._file = path.open("ab", buffering=0)
        self._bytes = path.stat().st_size
        self._failing = False

    @classmethod
    def of_this_replica(cls) -> "RequestLog":
        """Opens a log beside the file that Ray Serve logs to, rotated in the same way."""
        own = serve_log.log_handler()
        path = Path(own.baseFilename).with_suffix(".requests.jsonl")
        return cls(path, own.maxBytes, own.backupCount)

    def write(self, line: bytes) -> None:
        """Writes a line. If the disk rejects it, only the line is lost."""
        try:
            if 0 < self._max_bytes < self._bytes + len(line):
                self._bytes = 0
                self._begin_another()
            self._file.write(line)
            self._bytes += len(line)
            self._failing = False
        except (OSError, ValueError) as error:  # ValueError: it is closed
            if not self._failing:
                log.error("lines of %s are lost: %s", self.path, error)
            self._failing = True

    def close(self) -> None:
        self._file.close()

    def _begin_another(self) -> None:
        files = [self.path, *(Path(f"{self.path}.{n + 1}") for n in range(self._kept_files))]
        for newer, older in reversed(list(itertools.pairwise(files))):
            if newer.exists():
                newer.replace(older)
        full, self._file = self._file, self.path.open("ab", buffering=0)
        full.close()
