"""The output files, in a form that survives a kill at any moment.

Answers go to OUT and failures to a file beside it, as whole lines in the order of completion; each
custom_id is in one of the two. Each line is written in one piece as soon as it exists, so it
survives the process. At most the last line can be incomplete; the next run removes it and sends the
request again. `sync` writes the lines to the disk: a crash of the machine loses at most the lines
since the last `sync`, and their requests are sent again too.
"""

import contextlib
import fcntl
import os
from collections.abc import Container, Iterator
from pathlib import Path
from types import TracebackType

from serving.batch.lines import ANSWER_PREFIX, Answer, parse_answer
from serving.batch.requests import read_lines


class ResultsError(Exception):
    """The output files cannot be used; the message names the file, the reason and the remedy."""


def failures_path(out: Path) -> Path:
    """The file for the failed lines of a run into `out`: out.errors.jsonl for out.jsonl."""
    return out.with_name(f"{out.stem}.errors{out.suffix}")


class Results:
    """The output files of one run, locked against a second run while open.

    `answered` and `failed` are the custom_ids that are not sent again: those with an answer, and
    those that the service rejected for good. Lines that ran out of tries are removed from the
    failures and sent again. Raises ResultsError, also for lines outside `known`, the input's
    custom_ids: they belong to another input's output.
    """

    def __init__(self, out: Path, known: Container[str], failures: Path | None = None) -> None:
        """`failures` is by default the file that `failures_path` names."""
        self.out = out
        self.failures = failures or failures_path(out)
        self._known = known
        self._failures_fd: int | None = None
        self._write_error: OSError | None = None
        try:
            self._out_fd = _open(out)
            try:
                self._lock()
                self.answered = {answer.custom_id for _, answer in self._read(out)}
                self.failed = self._keep_permanent_failures()
            except BaseException:
                os.close(self._out_fd)
                raise
        except OSError as error:
            raise ResultsError(f"{error.filename or out}: {error.strerror}") from None

    def __enter__(self) -> "Results":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.sync()
        finally:
            for fd in self._fds():
                os.close(fd)

    def append(self, answer: Answer) -> None:
        """Writes the line to its file. Raises OSError, for example if the disk is full, and writes
        nothing from then on: no line may follow an incomplete one."""
        if self._write_error is not None:
            raise self._write_error
        if answer.succeeded:
            fd = self._out_fd
        else:
            if self._failures_fd is None:
                self._failures_fd = _open(self.failures)
            fd = self._failures_fd
        line = memoryview(answer.encode())
        start = os.fstat(fd).st_size
        try:
            while line:
                line = line[os.write(fd, line) :]
        except OSError as error:
            self._write_error = error
            with contextlib.suppress(OSError):
                os.ftruncate(fd, start)
            raise
        (self.answered if answer.succeeded else self.failed).add(answer.custom_id)

    def sync(self) -> None:
        """Returns when all lines are on the disk."""
        for fd in self._fds():
            os.fdatasync(fd)

    def _fds(self) -> list[int]:
        return [fd for fd in (self._out_fd, self._failures_fd) if fd is not None]

    def _lock(self) -> None:
        try:
            fcntl.flock(self._out_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResultsError(f"{self.out}: another run is writing to it") from None

    def _read(self, path: Path) -> Iterator[tuple[bytes, Answer]]:
        """Yields the lines of an output file, after removing a last line that a crash cut short."""
        with path.open("rb") as file:
            for number, offset, line in read_lines(file):
                where = f"{path}:{number}"
                if not line.endswith(b"\n") and _may_be_cut_answer(line):
                    os.truncate(path, offset)
                    return
                try:
                    answer = parse_answer(line)
                except ValueError as error:
                    raise ResultsError(
                        f"{where}: not a line of a batch's output ({error}). Name another output "
                        "file, or remove that line."
                    ) from None
                if answer.custom_id not in self._known:
                    raise ResultsError(
                        f"{where}: the input has no custom_id '{answer.custom_id[:100]}': this is "
                        "the output of another input. Name another output file."
                    )
                yield line, answer

    def _keep_permanent_failures(self) -> set[str]:
        """Rewrites the failures without those that are worth another try."""
        if not self.failures.exists():
            return set()
        kept: set[str] = set()
        rewritten = self.failures.with_name(self.failures.name + ".tmp")
        with rewritten.open("wb") as file:
            for line, answer in self._read(self.failures):
                if answer.error is None:
                    kept.add(answer.custom_id)
                    file.write(line)
            file.flush()
            os.fsync(file.fileno())
        rewritten.replace(self.failures)
        if not kept:
            self.failures.unlink()
        return kept


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)


def _may_be_cut_answer(line: bytes) -> bool:
    """Whether `line` is an incomplete line of ours, or consists of zeros, which a crash of the
    machine leaves in some file systems."""
    return line[: len(ANSWER_PREFIX)] == ANSWER_PREFIX[: len(line)] or not line.strip(b"\0")
