"""Any token ids at all, in any steps."""

import random

import pytest
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy

from serving.answers.events import Answer
from tests.answers.parsing import cuts, parse, parser, random_ids, tekken, vocabulary
from tests.mistral.tokenizers import VERSIONS

STREAMS = 3400
"""Number of streams for each version of the tokenizer: more than 10,000 in all."""


@pytest.mark.parametrize("version", VERSIONS)
def test_steps_make_no_difference(version: str) -> None:
    dice = random.Random(version)
    calls = 0
    for _ in range(STREAMS):
        ids = list(random_ids(version, dice, dice.randrange(40)))
        options = {
            "tools": dice.random() < 0.7,
            "stop": dice.choice([(), ("a",), ("aa", "na,"), ("]", "}]", "\ufffd")]),
            "include_stop_str": dice.random() < 0.5,
            "skip_special_tokens": dice.random() < 0.5,
            "min_tokens": dice.choice((0, 5)),
            "reason": dice.choice(("stop", "length")),
        }
        expected = parse(version, [[token_id] for token_id in ids], **options)
        assert parse(version, cuts(ids, dice), **options) == expected
        assert parse(version, [ids], **options) == expected
        assert expected.end is not None
        calls += len(expected.calls)
    assert version == "v7" or calls > 100


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("skip", [True, False])
def test_text_is_what_mistral_common_decodes(version: str, skip: bool) -> None:
    dice = random.Random(version)
    words = vocabulary(version)
    policy = SpecialTokenPolicy.IGNORE if skip else SpecialTokenPolicy.KEEP
    left_out = {words.think, words.end_think, words.eos}
    for _ in range(STREAMS // 5):
        ids = [
            token_id
            for token_id in random_ids(version, dice, dice.randrange(40))
            if token_id not in left_out
        ]
        answer = parse(version, cuts(ids, dice), skip_special_tokens=skip)
        assert answer.text == tekken(version).decode(ids, policy)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_parser_counts_what_it_read(version: str) -> None:
    dice = random.Random(version)
    for _ in range(200):
        ids = list(random_ids(version, dice, 30))
        counts = set()
        for steps in ([ids], [[token_id] for token_id in ids], cuts(ids, dice)):
            reading, answer = parser(version, stop=["a"], want_token_ids=True), Answer()
            for step in steps:
                answer.add(reading.feed(step))
            assert answer.token_ids == ids[: reading.tokens]
            assert reading.ended == (answer.end is not None)
            counts.add((reading.tokens, reading.reasoning_tokens))
        assert len(counts) == 1
