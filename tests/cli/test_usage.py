"""`mistral-serve usage`."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.json import encode
from typer.testing import CliRunner, Result

from serving.cli.commands import app
from serving.ledger.entry import Entry, lines_of
from serving.ledger.folder import segment_name
from serving.ledger.report import Gap, Report, Row
from tests.support.http_server import BackgroundServer, Request, answering, response

AT = datetime(2026, 11, 29, 12, 30, 5, tzinfo=UTC)
ROWS = [
    Row(requests=3, input_tokens=1234567, output_tokens=30, gpu_s=7200, tenant="a", model="m"),
    Row(requests=1, estimated=1, tenant="b", key="k1", model="m"),
]
REPORT = Report("2026-11-01", "2026-11-29", ROWS, 2, [Gap("r1", AT, 5)], 1)


class Service:
    """A service with that answer to every request."""

    def __init__(self, status: int, body: bytes) -> None:
        self._reply = response(body, status)
        self.targets: list[str] = []
        self._server = BackgroundServer(answering(self._answer))

    def _answer(self, request: Request) -> bytes:
        self.targets.append(request.target.decode())
        return self._reply

    def usage(self, *options: str) -> Result:
        with self._server as server:
            return run("--url", server.url, *options)


def run(*options: str) -> Result:
    return CliRunner().invoke(app, ["usage", *options], catch_exceptions=False)


def test_a_table_has_a_total_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    service = Service(200, encode(REPORT))
    result = service.usage("--from", "2026-11-01", "--to", "2026-11-29")
    assert result.exit_code == 0
    assert service.targets == ["/-/usage?from=2026-11-01&to=2026-11-29&by=tenant%2Ckey%2Cmodel"]
    head, first, second, total = result.stdout.splitlines()
    assert head.split()[:4] == ["tenant", "key", "model", "requests"]
    assert first.split() == ["a", "-", "m", "3", "1,234,567", "0", "30", "0", "0", "2.00"]
    assert second.split()[:4] == ["b", "k1", "m", "1"]
    assert total.split()[:3] == ["total", "4", "1,234,567"]
    running, gap, estimated, damaged = result.stderr.splitlines()
    assert running.startswith("2 requests are in flight")
    assert "r1 was killed" in gap and "5 requests" in gap and "2026-11-29 12:30:05 UTC" in gap
    assert estimated.startswith("1 requests have a count")
    assert damaged.startswith("1 lines")


def test_headers_are_whole_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    head = Service(200, encode(REPORT)).usage().stdout.splitlines()[0]
    assert " ".join(head.split()).endswith("repeated input tokens wasted output tokens GPU-hours")


def test_csv_and_json_are_for_programs() -> None:
    result = Service(200, encode(REPORT)).usage("--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["tenant"], row["key"], row["input_tokens"]) for row in rows] == [
        ("a", "", "1234567"),
        ("b", "k1", "0"),
    ]
    result = Service(200, encode(REPORT)).usage("--format", "json")
    assert json.loads(result.stdout) == json.loads(encode(REPORT))


def test_a_folder_is_read_without_a_service(tmp_path: Path) -> None:
    entry = Entry(id=1, at=AT, request_id="r", tenant="a", model="m", output_tokens=7)
    (tmp_path / segment_name("r1", AT.date())).write_bytes(lines_of([entry]))
    days = ("--from", "2026-11-29", "--to", "2026-11-29")
    options = ("--folder", str(tmp_path), "--by", "day,tenant", "--format", "csv")
    row = next(csv.DictReader(io.StringIO(run(*options, *days).stdout)))
    assert (row["day"], row["tenant"], row["output_tokens"]) == ("2026-11-29", "a", "7")
    assert "model" not in row


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--by", "colour"), "--by must be a list of day, tenant, key, model"),
        (("--from", "2026-11-30", "--to", "2026-11-29"), "--from 2026-11-30 is after --to"),
        (("--folder", "/nowhere"), "there is no folder /nowhere"),
    ],
)
def test_a_wrong_option_is_told(options: tuple[str, ...], says: str) -> None:
    result = run(*options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, {}, "keeps no usage"),
        (503, {"error": {"message": "The usage ledger cannot be read now."}}, "cannot be read now"),
        (200, [], "is not a mistral-serve service"),
    ],
)
def test_a_service_that_cannot_tell_is_an_error(status: int, body: Any, says: str) -> None:
    result = Service(status, encode(body)).usage()
    assert (result.exit_code, result.stdout) == (1, "")
    assert says in result.stderr and result.stderr.count("\n") == 1
