"""Stop strings, compared with a search in the whole text."""

import random

import pytest

from serving.answers.events import Answer, Text
from serving.answers.stop_strings import StopStrings
from tests.answers.parsing import cuts, encode, parse, parser, read, tekken, vocabulary


def ended_text(text: str, stop: list[str], include: bool) -> tuple[str, str | None]:
    """Returns the text up to the stop string that is complete first, and that string."""
    ends = [(text.find(string) + len(string), n) for n, string in enumerate(stop) if string in text]
    if not ends:
        return text, None
    end, number = min(ends)
    return text[: end if include else end - len(stop[number])], stop[number]


def test_stop_strings_are_those_of_the_whole_text() -> None:
    dice = random.Random(1)
    matches = 0
    for _ in range(10_000):
        text = "".join(dice.choices("ab", k=dice.randrange(20)))
        stop = [
            "".join(dice.choices("ab", k=dice.randint(1, 6))) for _ in range(dice.randint(1, 3))
        ]
        include = dice.random() < 0.5
        matcher, got = StopStrings(stop, include), ""
        for piece in cuts(text, dice):  # type: ignore[arg-type]
            got += matcher.add(str(piece))
        if matcher.match is None:
            got += matcher.flush()
        assert (got, matcher.match) == ended_text(text, stop, include)
        matches += matcher.match is not None
    assert 1000 < matches < 9000


def test_stop_strings_end_answers_across_tokens() -> None:
    dice = random.Random(2)
    for _ in range(2000):
        ids = [100 + ord(letter) for letter in dice.choices("ab ", k=20)]
        ids += encode("v11", "😂 漢字")
        stop = dice.choice([["aab"], ["ab", "b b"], ["😂"], ["漢", "bbbb"]])
        include = dice.random() < 0.5
        answer = parse("v11", cuts(ids, dice), stop=stop, include_stop_str=include)
        text, match = ended_text(tekken("v11").decode(ids), stop, include)
        assert answer.text == text
        assert answer.end is not None and answer.end.stop == match


def test_tokens_end_with_the_one_that_completes_the_stop_string() -> None:
    ids = [100 + ord(letter) for letter in "one STOP two"]
    reading, answer = parser("v11", stop=["STOP"], want_token_ids=True), Answer()
    answer.add(reading.feed(ids))
    assert reading.ended and reading.tokens == 8
    assert answer.token_ids == ids[:8] and answer.text == "one "
    later = reading.feed(ids)
    assert not later.events and later.end is None and reading.tokens == 8
    assert reading.finish("stop").end is None


@pytest.mark.parametrize("stop", [["STOP"], ["x", "12345678"], ["x"]])
def test_events_end_one_character_less_than_the_longest_before_a_tokens_edge(
    stop: list[str],
) -> None:
    """The router continues broken streams of text on this."""
    ids = encode("v11", "Hello there, how do you do on such a fine day?")
    reading, length, sent = parser("v11", stop=stop), 0, 0
    for token_id in ids:
        length += len(vocabulary("v11").texts[token_id] or "")
        for event in reading.feed([token_id]).events:
            assert isinstance(event, Text)
            sent += len(event.text)
        assert sent == max(length - max(map(len, stop)) + 1, 0)


def test_nothing_is_held_back_where_the_stop_string_is_included() -> None:
    reading = parser("v11", stop=["a long one"], include_stop_str=True)
    for token_id in encode("v11", "Hello there"):
        assert reading.feed([token_id]).events == [Text(vocabulary("v11").texts[token_id] or "")]


def test_min_tokens_come_first() -> None:
    ids = [100 + ord(letter) for letter in "a.b.c.d."]
    for minimum, text in ((0, "a"), (1, "a"), (2, "a.b"), (5, "a.b.c"), (8, "a.b.c.d.")):
        steps = [ids[:3], ids[3:]]
        assert parse("v11", steps, stop=["."], min_tokens=minimum).text == text


def test_reasoning_ends_at_stop_strings_too() -> None:
    answer = read("v13", "[THINK]so far STOP[/THINK]yes", stop=["STOP"])
    assert answer.reasoning == "so far" and answer.text == ""
    assert answer.end is not None and answer.end.stop == "STOP"
    answer = read("v13", "[THINK]ST[/THINK]OP", stop=["STOP"])
    assert (answer.reasoning, answer.text) == ("ST", "OP")
