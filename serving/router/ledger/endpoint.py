"""The endpoint of the usage ledger."""

from datetime import UTC, date, datetime

import msgspec
from fastapi import Depends, FastAPI, Query, Response

from serving.ledger.report import COLUMNS, Column
from serving.router.http.authentication import Authentication
from serving.router.http.errors import ApiError, wrong_value
from serving.router.ledger.ledger import Ledger

PATH = "/-/usage"


def add_usage_endpoint(api: FastAPI, ledger: Ledger, authentication: Authentication) -> None:
    @api.get(PATH, dependencies=[Depends(authentication.check_admin)])
    async def get_usage(
        first: str | None = Query(None, alias="from"),
        last: str | None = Query(None, alias="to"),
        by: str = ",".join(COLUMNS),
    ) -> Response:
        """Returns a `Report` of the usage of all routers, from the day `from` to the day `to` in
        UTC, by default this month's. `by` lists what it is summed by."""
        today = datetime.now(UTC).date()
        end = _day("to", last, today)
        begin = _day("from", first, end.replace(day=1))
        try:
            report = await ledger.report(begin, end, _columns(by))
        except OSError as error:
            raise ApiError(
                503,
                f"The usage ledger cannot be read now: {error.strerror}.",
                code="ledger_failed",
            ) from None
        return Response(msgspec.json.encode(report), headers={"content-type": "application/json"})


def _day(field: str, text: str | None, default: date) -> date:
    if text is None:
        return default
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise wrong_value(field, "a day as YYYY-MM-DD") from None


def _columns(by: str) -> tuple[Column, ...]:
    named = by.split(",") if by else []
    columns = tuple(column for column in COLUMNS if column in named)
    if len(columns) < len(named):
        raise wrong_value("by", f"a list of {', '.join(COLUMNS)}, separated by commas")
    return columns
