"""How a batch's progress looks: a bar in a terminal, a line now and then elsewhere."""

import asyncio
import time
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from serving.batch.tally import Tally

_REDRAW_EVERY_S = 0.25
_LINE_EVERY_S = 10


async def show(tally: Tally, file: TextIO) -> None:
    """Shows `tally` in `file` as it changes, until cancelled."""
    console = Console(file=file)
    if console.is_terminal and not console.is_dumb_terminal:
        await _show_bar(tally, console)
    else:
        await _show_lines(tally, console)


async def _show_bar(tally: Tally, console: Console) -> None:
    rest_of_line = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    text = TextColumn("{task.description}", markup=False, table_column=rest_of_line)
    columns = BarColumn(20), text
    with Progress(*columns, console=console, expand=True) as progress:
        task = progress.add_task("", total=tally.total)

        def update() -> None:
            report = tally.report(time.monotonic())
            progress.update(task, completed=tally.done, description=report)

        try:
            while True:
                update()
                await asyncio.sleep(_REDRAW_EVERY_S)
        finally:
            update()


async def _show_lines(tally: Tally, console: Console) -> None:
    while True:
        await asyncio.sleep(_LINE_EVERY_S)
        console.print(tally.report(time.monotonic()), markup=False, highlight=False, soft_wrap=True)
