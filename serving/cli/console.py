"""The console that tables are printed on."""

import sys

from rich.console import Console

_PIPED_WIDTH = 1000
"""Width in characters, with which no cell is cut or wrapped."""


def console() -> Console:
    """Returns a console as wide as the terminal or, in a pipe, as any table."""
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(width=width, highlight=False, soft_wrap=width is not None)
