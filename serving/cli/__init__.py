"""The `mistral-serve` command: the one door of its subcommands, which take a second to import."""

import errno
import os
import sys
from pathlib import Path

_INTERRUPTED = 130


def main() -> None:
    """Runs the command line, and ends without a traceback if it is interrupted, or if its output
    cannot be written."""
    _open_closed_streams()
    try:
        try:
            from serving.cli.commands import app

            app()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except OSError as error:
        # Python would flush it once more at its end, and fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            what = ": ".join(filter(None, (error.filename, error.strerror or str(error))))
            print(f"mistral-serve: {what}", file=sys.stderr)
        sys.exit(1)


def _open_closed_streams() -> None:
    """Has nothing to read, and drops what is written, in place of a stream that the shell closed:
    Python has None for it."""
    nothing = Path(os.devnull)
    sys.stdin = sys.stdin or nothing.open()
    sys.stdout = sys.stdout or nothing.open("w")
    sys.stderr = sys.stderr or nothing.open("w")
