import asyncio
import importlib
import sys

import pytest

from serving.batch.tally import Tally
from serving.cli.batch_progress import show


async def shown_for_a_moment(tally: Tally) -> None:
    task = asyncio.create_task(show(tally, sys.stderr))
    for _ in range(3):
        await asyncio.sleep(0)
    tally.count_failure("a", "why")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_no_terminal_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module("serving.cli.batch_progress")
    monkeypatch.setattr(module, "_LINE_EVERY_S", 0)
    await shown_for_a_moment(Tally(total=1_000, answered_before=3, waiting=1, trouble="[503]: x"))
    output, errors = capsys.readouterr()
    assert output == "" and "\x1b" not in errors
    first = errors.splitlines()[0]
    assert first.startswith("3 of 1,000 lines, 0 failed") and first.endswith("again ([503]: x)")


async def test_a_terminal_gets_a_bar_which_ends_with_the_last_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)
    await shown_for_a_moment(Tally(total=1_000, answered_before=3))
    output, errors = capsys.readouterr()
    assert output == ""
    assert "━" in errors and "4 of 1,000 lines, 1 failed" in errors
