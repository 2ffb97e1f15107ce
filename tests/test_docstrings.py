"""The docstring check finds what it should, and nothing else."""

import pytest

from tests import docstrings


@pytest.mark.parametrize("beginning", ["Of all", "That is", "So many", "As they", "The same for"])
@pytest.mark.parametrize(
    ("source", "line"),
    [
        ('"""{} of a module."""', 1),
        ('class A:\n    """{} of a class."""', 2),
        ('def f():\n    """{} of a function."""', 2),
        ('async def f():\n    """\n    {} below a blank line."""', 2),
        ('LIMIT = 1\n"""{} of a constant."""', 2),
        ('class A:\n    limit: int\n    """{} of an attribute."""', 3),
        ('class A:\n    def f(self):\n        self.x = 1\n        """{} of one in a method."""', 4),
    ],
)
def test_a_docstring_that_continues_a_sentence_is_found(
    beginning: str, source: str, line: int
) -> None:
    ((found, text),) = docstrings.findings(source.format(beginning))
    assert found == line
    assert text.startswith(beginning)


@pytest.mark.parametrize(
    "source",
    [
        '"""Offline inference."""',
        '"""Assigns what is Of another. That may be."""',
        '"""Theirs, the same."""',
        'print("x")\n"""Of no definition: a string that documents nothing."""',
        'def f():\n    return """Of no docstring."""',
        'f = lambda: """Of no docstring."""',
    ],
)
def test_other_strings_are_left_alone(source: str) -> None:
    assert list(docstrings.findings(source)) == []


def test_the_command_names_file_and_line(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path_factory.mktemp("tree")
    (root / "serving/router").mkdir(parents=True)
    (root / "serving/router/good.py").write_text('"""A full phrase."""\n')
    monkeypatch.setattr(docstrings, "ROOT", root)
    assert docstrings.main(["serving"]) == 0
    (root / "serving/router/bad.py").write_text('X = 1\n"""Of what stands above."""\n')
    assert docstrings.main(["serving"]) == 1
    assert capsys.readouterr().out.startswith("serving/router/bad.py:2: ")
