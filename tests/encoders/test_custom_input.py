import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.encoders.custom_input import CustomInput


def decoded(text: str, cuts: list[int]) -> str:
    custom = CustomInput()
    bounds = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return "".join(custom.feed(text[begin:end]) for begin, end in pairwise(bounds))


_CUTS = st.lists(st.integers(0, 10_000), max_size=20)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\/\n😀\ufffd'))


@given(_TEXT, st.booleans(), _CUTS)
def test_an_input_is_taken_out_wherever_it_is_cut(text: str, ascii: bool, cuts: list[int]) -> None:
    arguments = json.dumps({"input": text}, ensure_ascii=ascii)
    assert decoded(arguments, cuts) == text


@given(_TEXT, _CUTS, st.integers(0, 10_000))
def test_what_is_cut_off_is_the_beginning_of_the_input(
    text: str, cuts: list[int], length: int
) -> None:
    arguments = json.dumps({"input": text})
    cut = arguments[: length % (len(arguments) + 1)]
    assert text.startswith(decoded(cut, cuts))
    assert decoded(cut, cuts) == decoded(cut, [])


def test_one_character_at_a_time() -> None:
    arguments = '{ "input" : "a\\ud83d\\ude00\\n\\"\\u00e9\\\\" }'
    assert decoded(arguments, list(range(len(arguments)))) == 'a😀\n"é\\'


def test_text_is_told_at_once() -> None:
    custom = CustomInput()
    assert [custom.feed(piece) for piece in ('{"input": "', "ab", "c\\", "n")] == [
        "",
        "ab",
        "c",
        "\n",
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (r'{"input": "\ud83d"}', "\ufffd"),
        (r'{"input": "\ud83dx"}', "\ufffdx"),
        (r'{"input": "\ud83d\n"}', "\ufffd\n"),
        (r'{"input": "\ud83d\ud83d\ude00"}', "\ufffd😀"),
        (r'{"input": "\ude00"}', "\ufffd"),
        (r'{"input": "\q\u12x"}', r"\q\u12x"),
    ],
)
def test_broken_escapes(arguments: str, text: str) -> None:
    for cuts in ([], list(range(len(arguments)))):
        assert decoded(arguments, cuts) == text


@pytest.mark.parametrize("arguments", ["print(1)", '{"code": "x"}', '{"in put": "x"}', '"x"'])
def test_other_arguments_are_the_input(arguments: str) -> None:
    for cuts in ([], list(range(len(arguments)))):
        assert decoded(arguments, cuts) == arguments
