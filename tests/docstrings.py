"""Finds docstrings that cannot be read without their neighbours: `python -m tests.docstrings`.

A docstring is a full phrase. One that begins with "Of", "That", "So many", "As" or "The same"
continues a sentence elsewhere. The strings below assignments, which document attributes, follow the
same rule.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("serving", "deploy", "dashboards", "tests")
_CONTINUES = re.compile(r"\s*((?:Of|That|So many|As|The same)\b.*)")
_DOCUMENTED = (
    ast.Module,
    ast.ClassDef,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.Assign,
    ast.AnnAssign,
)


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yields the line and text of each docstring of a module, class, function or attribute."""
    for owner in ast.walk(ast.parse(source)):
        body = getattr(owner, "body", None)
        for above, node in pairwise([owner, *body] if isinstance(body, list) else []):
            if (
                isinstance(above, _DOCUMENTED)
                and isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                yield node.lineno, node.value.value


def findings(source: str) -> Iterator[tuple[int, str]]:
    """Yields the line and beginning of each docstring that continues another sentence."""
    for line, text in docstrings(source):
        if continues := _CONTINUES.match(text):
            yield line, continues[1]


def main(folders: Iterable[str]) -> int:
    """Prints the findings as `file:line: ...`; returns the exit status."""
    count = 0
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for line, text in findings(path.read_text()):
                print(f"{path.relative_to(ROOT)}:{line}: the docstring is no full phrase: {text}")
                count += 1
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or FOLDERS))
