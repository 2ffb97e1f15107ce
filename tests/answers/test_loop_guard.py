"""Loops and mere repetition, told apart on the full-size tokenizer's tokens."""

import random
from importlib.resources import files

import pytest
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from pydantic import ValidationError

from serving.answers.loop_guard import LoopDetector, is_wordless
from serving.catalogue import LoopGuard
from tests.answers.repetitive_texts import texts

WORDS = (
    " the quick brown fox jumps over a lazy dog while seven wizards brew strong coffee and their"
    " clever neighbours argue about music from Vienna old maps of Peru or how to build boats that"
    " never sink nobody knows why it matters yet everyone listens until night falls on river stone"
    " window garden letter market silver winter candle bridge orange summer pencil forest"
)


@pytest.fixture(scope="module")
def tekken() -> Tekkenizer:
    return Tekkenizer.from_file(str(files("mistral_common") / "data" / "tekken_240911.json"))


def stopped_at(tekken: Tekkenizer, token_ids: list[int]) -> int | None:
    """Returns the number of tokens after which the default guard finds a loop."""
    detector = LoopDetector(LoopGuard(), lambda token_id: tekken.decode([token_id]))
    return next((n for n, t in enumerate(token_ids, 1) if detector.add(t)), None)


def encode(tekken: Tekkenizer, text: str) -> list[int]:
    return tekken.encode(text, bos=False, eos=False)


def test_none_of_230_texts_that_repeat_themselves_is_cut(tekken: Tekkenizer) -> None:
    assert len(texts()) == 230
    cut = {
        name: at
        for name, text in texts().items()
        if (at := stopped_at(tekken, encode(tekken, text))) is not None
    }
    assert not cut


@pytest.mark.parametrize(
    ("pattern_tokens", "stop_tokens"),
    [
        *((1, 168), (2, 168), (3, 168), (5, 168), (7, 168), (8, 192)),
        *((9, 909), (24, 2424), (25, 2500), (64, 2500), (90, 2500)),
    ],
)
def test_a_loop_of_words_is_stopped(
    tekken: Tekkenizer, pattern_tokens: int, stop_tokens: int
) -> None:
    pattern = encode(tekken, WORDS)[:pattern_tokens]
    assert stopped_at(tekken, pattern * stop_tokens) == stop_tokens


@pytest.mark.parametrize(
    "text",
    [
        *(" hello", " ha", "\n", " \n\t", "😂", "哈", "[TOOL_CALLS]", "no, ", " null", " True"),
        *("    nop\n", "I will not talk in class.\n", "- [ ] Task\n"),
    ],
)
def test_a_short_loop_is_stopped_in_under_200_tokens_of_it(tekken: Tekkenizer, text: str) -> None:
    opening = encode(tekken, "Of course. Here is what you asked for:")
    stop = stopped_at(tekken, opening + encode(tekken, text * 1000))
    assert stop is not None and stop - len(opening) < 200


@pytest.mark.parametrize("text", ["=", ", 0", "|---", "A", "0.0, ", "* ", "null, ", "<br>"])
def test_a_loop_without_words_is_stopped_too(tekken: Tekkenizer, text: str) -> None:
    stop = stopped_at(tekken, encode(tekken, text) * 5000)
    assert stop is not None and 2000 < stop < 4000


def test_a_loop_after_a_long_answer_is_stopped(tekken: Tekkenizer) -> None:
    answer = encode(tekken, "\n".join(texts().values()))[:20_000]
    stop = stopped_at(tekken, answer + encode(tekken, " and so on") * 100)
    assert stop is not None and stop - len(answer) < 200


def test_only_what_repeats_exactly_is_a_loop(tekken: Tekkenizer) -> None:
    counted = "".join(f"{i}. Repeat the word hello.\n" for i in range(500))
    assert stopped_at(tekken, encode(tekken, counted)) is None


@pytest.mark.parametrize(
    ("text", "wordless"),
    [
        ("0, 0", True),
        ("|---|", True),
        ("AAAA", True),
        ("│ ─ █", True),
        ("", True),
        ("null, ", True),
        ("ull, n", True),
        ("| n/a | N/A ", True),
        ("0xDE, 0xAD, ", True),
        ("<td>&nbsp;</td>", True),
        ('d class="wide"></td><t', True),
        ("null ", False),
        ("nullable, ", False),
        ("<td>no</td>", False),
        ("if a < b: ", False),
        (" no", False),
        ("   \n", False),
        ("😂", False),
        ("哈", False),
        ("\ufffd", False),
    ],
)
def test_what_has_no_words(text: str, wordless: bool) -> None:
    assert is_wordless(text) == wordless


def guard_of(max_pattern_tokens: int, min_pattern_tokens: int, min_count: int) -> LoopGuard:
    return LoopGuard(
        max_pattern_tokens=max_pattern_tokens,
        min_pattern_tokens=min_pattern_tokens,
        min_count=min_count,
    )


@pytest.mark.parametrize(
    "guard",
    [
        *(guard_of(5, 2, 3), guard_of(3, 1, 2), guard_of(4, 4, 2), guard_of(12, 3, 4)),
        *(guard_of(14, 7, 4), guard_of(14, 5, 12)),
    ],
)
def test_the_detector_does_what_its_definition_says(guard: LoopGuard) -> None:
    """Compares the detector with its definition on nearly periodic sequences."""

    def is_loop(ids: list[int]) -> bool:
        for pattern in range(1, guard.max_pattern_tokens + 1):
            run = max(pattern, guard.min_pattern_tokens) * guard.min_count
            if pattern >= 9:
                run = max(run, min(pattern * 101, 2500))
            tail = ids[-run:]
            if len(tail) == run and tail[pattern:] == tail[:-pattern]:
                return True
        return False

    dice = random.Random(1)
    loops = 0
    for _ in range(300):
        pattern = [dice.choice((7, 8, 263)) for _ in range(dice.randint(1, 14))]
        ids = (pattern * 60)[: dice.randint(20, 130)]
        for _ in range(dice.randint(0, 3)):
            ids[dice.randrange(len(ids))] = 7
        detector = LoopDetector(guard, lambda _: "words")
        found = [detector.add(token_id) for token_id in ids]
        assert found == [is_loop(ids[: n + 1]) for n in range(len(ids))]
        loops += any(found)
    assert loops > 50


@pytest.mark.parametrize("fields", [(0, 0, 8), (4, 5, 8), (4, 1, 1), (4, 0, 8)])
def test_a_guard_that_could_not_work_is_refused(fields: tuple[int, int, int]) -> None:
    with pytest.raises(ValidationError):
        guard_of(*fields)
