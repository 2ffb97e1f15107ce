import logging
from logging.handlers import MemoryHandler, RotatingFileHandler
from pathlib import Path

import pytest

from serving.router.telemetry.request_log import RequestLog

LINE = b'{"n": 1}\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "requests.jsonl"


def test_each_line_is_in_the_file_at_once_and_an_older_files_lines_stay(path: Path) -> None:
    path.write_bytes(LINE)
    log = RequestLog(path, max_bytes=1000, kept_files=1)
    log.write(LINE)
    assert path.read_bytes() == LINE * 2
    log.close()


def test_a_full_file_is_kept_and_the_oldest_is_not(path: Path) -> None:
    log = RequestLog(path, max_bytes=25, kept_files=2)
    lines = [b"line %03d\n" % n for n in range(7)]
    for line in lines:
        log.write(line)
    log.close()
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == [path.name, f"{path.name}.1", f"{path.name}.2"]
    assert [file.read_bytes() for file in files] == [
        lines[6],
        b"".join(lines[4:6]),
        b"".join(lines[2:4]),
    ]


def test_a_file_that_was_full_before_is_kept(path: Path) -> None:
    path.write_bytes(LINE)
    log = RequestLog(path, max_bytes=len(LINE), kept_files=1)
    log.write(b"new\n")
    log.close()
    assert (path.read_bytes(), Path(f"{path}.1").read_bytes()) == (b"new\n", LINE)


@pytest.mark.parametrize(("max_bytes", "kept_files"), [(0, 5), (10, 0)])
def test_without_a_bound_there_is_one_file(path: Path, max_bytes: int, kept_files: int) -> None:
    log = RequestLog(path, max_bytes, kept_files)
    for _ in range(10):
        log.write(LINE)
    log.close()
    assert path.read_bytes() == LINE * 10
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_loses_lines_says_so_once_and_harms_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = RequestLog(Path("/dev/full"), 0, 0)
    for _ in range(3):
        log.write(LINE)
    log.close()
    assert [record.getMessage() for record in caplog.records] == [
        "lines of /dev/full are lost: [Errno 28] No space left on device"
    ]


def test_a_request_that_ends_after_the_router_has_closed_does_no_harm(path: Path) -> None:
    log = RequestLog(path, 0, 0)
    log.close()
    log.write(LINE)
    assert path.read_bytes() == b""


def test_a_replicas_file_lies_beside_the_one_of_ray_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = RotatingFileHandler(tmp_path / "replica_a_b.log", maxBytes=25, backupCount=1)
    handlers = [logging.StreamHandler(), MemoryHandler(1, target=own)]
    monkeypatch.setattr(logging.getLogger("ray.serve"), "handlers", handlers)
    log = RequestLog.of_this_replica()
    for _ in range(5):
        log.write(LINE)
    log.close()
    own.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "replica_a_b.log",
        "replica_a_b.requests.jsonl",
        "replica_a_b.requests.jsonl.1",
    ]
