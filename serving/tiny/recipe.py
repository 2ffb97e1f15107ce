"""The digest of what decides a tiny model's weights."""

import ast
import hashlib
from pathlib import Path

from serving import model_cards

from .spec import TinySpec

_PACKAGE = Path(__file__).parent
# Not part of a recipe; a spec counts by its values.
_OTHER_MODULES = {"__init__", "__main__", "build", "evaluate", "recipe", "spec"}


def recipe_digest(spec: TinySpec) -> str:
    """Sixteen hex digits over a spec, the code that trains it and the model cards' texts. Comments,
    formatting and docstrings do not count."""
    modules = [path for path in _PACKAGE.glob("*.py") if path.stem not in _OTHER_MODULES]
    digest = hashlib.sha256(repr(spec).encode())
    for path in [*sorted(modules), Path(model_cards.__file__)]:
        digest.update(f"{path.stem}\0{_code(path)}\0".encode())
    return digest.hexdigest()[:16]


def _code(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            del node.body[: ast.get_docstring(node) is not None]
    return ast.dump(tree)
