"""A progress bar on stderr, or a line every ten per cent where stderr is not a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Advance = Callable[[], None]


@contextmanager
def progress(title: str, total: int, console: Console | None = None) -> Iterator[Advance]:
    """Yields a function to call once for each of ``total`` equal steps."""
    console = console or Console(file=sys.stderr)
    if not console.is_terminal:
        yield _plain(title, total, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def _plain(title: str, total: int, console: Console) -> Advance:
    done = 0

    def advance() -> None:
        nonlocal done
        before, done = 10 * done // total, done + 1
        if 10 * done // total > before:
            console.print(f"{title}: {100 * done // total} %", highlight=False)

    return advance
