import pytest

from serving.mistral.reasoning import ThinkSplitter, tagged

ANSWERS = {
    "<think>\n3+4\n</think>\nSeven.": ("3+4", "Seven."),
    "<think>3+4</think>Seven.": ("3+4", "Seven."),
    "<think>\n3\n\n+4\n\n</think>\n\n  Seven.\n": ("3\n\n+4\n", "Seven.\n"),
    "Seven.": ("", "Seven."),
    "": ("", ""),
    " \n": ("", " \n"),
    "a < b <thin and </think>": ("", "a < b <thin and </think>"),
    "ends in <thi": ("", "ends in <thi"),
    "Well: <think>\nhm\n</think>\nSeven.": ("hm", "Well: Seven."),
    "<think>\ncut at max_tok": ("cut at max_tok", ""),
    "<think>\ncut in the tag\n</thi": ("cut in the tag\n</thi", ""),
    "<think>": ("", ""),
    "<think>\n": ("", ""),
    "<think>\n</think>\n": ("", ""),
    "<think>\n\n</think>": ("", ""),
    "<think>\nonly\n</think>": ("only", ""),
    "<think>\na<think>b\n</think>\nc<think>d</think>": ("a<think>b", "c<think>d</think>"),
    "<think>\n< / </ <</think>\n<b>é日本</b>": ("< / </ <", "<b>é日本</b>"),
    "<<think>>\n</think>>": (">", "<>"),
}


def split(pieces: list[str]) -> tuple[str, str]:
    splitter = ThinkSplitter()
    parts = [splitter.feed(piece) for piece in pieces] + [splitter.finish()]
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.items())
def test_wherever_it_is_cut_an_answer_splits_alike(answer: str, expected: tuple[str, str]) -> None:
    assert split([answer]) == expected
    assert split(list(answer)) == expected
    for first in range(len(answer) + 1):
        for second in range(first, len(answer) + 1):
            assert split([answer[:first], answer[first:second], answer[second:]]) == expected


def test_text_comes_as_soon_as_it_cannot_be_a_tag() -> None:
    splitter = ThinkSplitter()
    assert splitter.feed("<th") == ("", "")
    assert splitter.feed("ink>") == ("", "")
    assert splitter.feed("\nso") == ("so", "")
    assert splitter.feed(" <") == (" ", "")
    assert splitter.feed("5\n") == ("<5", "")
    assert splitter.feed("</think>\n") == ("", "")
    assert splitter.feed("Sev") == ("", "Sev")


@pytest.mark.parametrize(("reasoning", "content"), [("3+4", "Seven."), ("a\n\nb", ""), ("", "x")])
def test_it_takes_apart_what_tagged_puts_together(reasoning: str, content: str) -> None:
    assert split([tagged(reasoning) + content]) == (reasoning, content)
