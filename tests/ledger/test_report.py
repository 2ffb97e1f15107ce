import csv
import io
from datetime import UTC, date, datetime
from typing import Any

from serving.ledger import report
from serving.ledger.entry import ROUTER_ENDED, Entry
from serving.ledger.report import Row, Sums, rows_of, sums_of, to_csv

DAY = date(2026, 11, 29)


def entry(tenant: str = "a", model: str = "m", **fields: Any) -> Entry:
    at = datetime(2026, 11, 29, 12, tzinfo=UTC)
    return Entry(id=1, at=at, request_id="r", tenant=tenant, model=model, **fields)


def sums(*entries: Entry) -> Sums:
    summed: Sums = {}
    report.add(summed, DAY, entries)
    return summed


def test_entries_are_summed_up_by_what_is_asked() -> None:
    summed = sums(
        entry(key_id="k1", input_tokens=1, output_tokens=10),
        entry(key_id="k2", input_tokens=2, output_tokens=20, estimated=True),
        entry("b", outcome=ROUTER_ENDED, output_tokens=5, gpu_s=0.5),
    )
    assert len(rows_of(summed)) == 3
    a, b = rows_of(summed, ("tenant",))
    assert (a.tenant, a.key, a.day) == ("a", None, None)
    assert (a.requests, a.input_tokens, a.output_tokens, a.estimated) == (2, 3, 30, 1)
    assert (b.requests, b.output_tokens, b.gpu_s, b.incomplete) == (1, 5, 0.5, 1)
    (total,) = rows_of(summed, ())
    assert (total.requests, total.output_tokens) == (3, 35)


def test_rows_and_sums_are_the_same() -> None:
    summed = sums(entry(key_id="k1", cached_tokens=3), entry("b", wasted_output_tokens=4))
    assert sums_of(rows_of(summed)) == summed


def test_csv_has_the_columns_that_it_is_summed_by() -> None:
    rows = rows_of(sums(entry('a, "b"', output_tokens=7, gpu_s=1 / 3)), ("day", "tenant"))
    (line,) = csv.DictReader(io.StringIO(to_csv(rows, ("day", "tenant"))))
    assert (line["day"], line["tenant"], line["output_tokens"]) == ("2026-11-29", 'a, "b"', "7")
    assert line["gpu_s"] == "0.333"
    assert "model" not in line and set(line) < set(Row.__struct_fields__)
