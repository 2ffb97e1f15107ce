"""What all subcommands of `mistral-serve` have in common, in a process of its own."""

import re
import subprocess
import sys

import pytest

from serving.cli import commands

MAIN = "from serving.cli import main; main()"
INTERRUPTED = """
import sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == "serving.cli.commands":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
"""


def run(arguments: str, code: str = MAIN) -> "subprocess.CompletedProcess[str]":
    """Runs the command in a shell, with redirections."""
    command = f'"$0" -c "$1" {arguments}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, code], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", ["models", "models --json", "--help"])
def test_a_full_disk_is_told(command: str) -> None:
    done = run(f"{command} >/dev/full")
    assert (done.returncode, done.stderr) == (1, "mistral-serve: No space left on device\n")


def test_a_reader_that_has_enough_is_no_error() -> None:
    done = run("models --json | head -c 1")
    assert (done.stdout, done.stderr) == ("[", "")


def test_the_help_names_every_command() -> None:
    help_text = run("--help").stdout
    listed = {line.split()[1] for line in help_text.splitlines() if re.match("│ [a-z]", line)}
    assert listed == set(commands.NAMES)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_empty(closed: str) -> None:
    done = run(f"models {closed}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_conversation_without_input_ends() -> None:
    done = run("chat --model m <&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_interrupt_while_it_is_imported_ends_it() -> None:
    done = run("models", INTERRUPTED + MAIN)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
