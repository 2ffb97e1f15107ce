"""Extracts the checkable parts of documents: commands, links, paths and code blocks."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for pattern in (
        "*.md",
        "deploy/**/*.md",
        "serving/**/*.md",
        "dashboards/**/*.md",
        "tests/**/*.md",
    )
    for path in ROOT.glob(pattern)
)
PROGRAMS = ("make", "mistral-serve", "kubectl", "curl", "serve", "pip", "helm")
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.M | re.S)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.M)
_SEPARATORS = ("|", "&&", "||", ";", ">", ">>", "<")


@dataclass(frozen=True, slots=True)
class Command:
    """A command in a document.

    `program` is its name without the folder. `is_complete` is false for one that is only mentioned
    in a sentence, such as `mistral-serve simulate`, whose arguments may be missing.
    """

    document: str
    text: str
    program: str
    arguments: tuple[str, ...]
    is_complete: bool

    def __str__(self) -> str:
        return f"{self.document}: {self.text}"


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yields the language ("" if none is named) and the content of each fenced block."""
    for match in _FENCE.finditer(text):
        yield match[1], match[2]


def prose(text: str) -> str:
    """Returns the document without its fenced blocks."""
    return _FENCE.sub("", text)


def spans(text: str) -> list[str]:
    """Returns the code spans outside of fenced blocks."""
    return _SPAN.findall(prose(text))


def links(text: str) -> list[str]:
    return _LINK.findall(prose(text))


def anchors(text: str) -> set[str]:
    """Returns the anchors of the headings, as GitHub makes them."""
    headings = (_HEADING.sub(r"\1", line) for line in prose(text).splitlines() if line[:1] == "#")
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def commands(document: str, text: str) -> list[Command]:
    """Returns the commands that the document asks its reader to type, from blocks and code
    spans."""
    shell = [block for language, block in blocks(text) if language in ("", "sh")]
    lines = [(line, True) for block in shell for line in _joined(block)]
    lines += [(span, False) for span in spans(text)]
    return [
        Command(document, line, words[0], tuple(words[1:]), is_complete)
        for line, is_complete in lines
        for words in _parsed(line)
    ]


def _joined(block: str) -> Iterator[str]:
    """Yields whole shell lines: those that end in a backslash or within quotes are continued."""
    line = ""
    for part in block.splitlines():
        line += part.strip() if not line else f"\n{part}"
        if line.endswith("\\"):
            line = line[:-1]
        elif line.count("'") % 2 == 0:
            yield line
            line = ""


def _parsed(line: str) -> Iterator[list[str]]:
    """Yields the words of each command of a shell line, if it is one of a known program."""
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:  # unbalanced quotes: not a command
        return
    command: list[str] = []
    for word in [*words, ";"]:
        if word not in _SEPARATORS:
            command.append(word)
            continue
        while command and re.fullmatch(r"\w+=\S*", command[0]):
            del command[0]
        if command:
            command[0] = command[0].removeprefix(".venv/bin/")
            if command[0] in PROGRAMS or re.fullmatch(r"[\w.]+/.*\.sh", command[0]):
                yield command
        command = []
