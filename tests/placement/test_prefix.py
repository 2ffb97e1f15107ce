import subprocess
import sys

from serving.placement.prefix import IMAGE_TOKENS, Prefix, prefix_of
from serving.placement.prompt_parts import Kind, Part


def chain(*parts: Part) -> Prefix:
    return prefix_of(parts, bytes_per_token=4)


def shared(one: Prefix, other: Prefix) -> int:
    """Returns the tokens up to which two chains agree."""
    end = 0
    for a, b, end_tokens in zip(one.hashes, other.hashes, one.ends_tokens, strict=False):
        if a != b:
            break
        end = end_tokens
    return end


def test_an_empty_prompt_is_an_empty_chain() -> None:
    assert chain() == Prefix([], [], 0)
    assert chain((Kind.TEXT, "")) == Prefix([], [], 0)


def test_tokens_are_estimated_from_bytes_and_counted_where_they_are_ids() -> None:
    assert chain((Kind.TEXT, "x" * 4000)).tokens == 1000
    assert chain((Kind.TEXT, "é" * 2000)).tokens == 1000
    assert prefix_of([(Kind.TEXT, "x" * 4000)], bytes_per_token=2).tokens == 2000
    assert prefix_of([(Kind.TOKEN_IDS, bytes(4000))], bytes_per_token=2).tokens == 1000
    assert chain((Kind.IMAGE, "x" * 100_000)).tokens == IMAGE_TOKENS + 2


def test_ends_rise_to_the_tokens_of_the_whole() -> None:
    prefix = chain((Kind.SYSTEM, "x" * 5000), (Kind.USER, "y" * 3000))
    assert prefix.ends_tokens == sorted(set(prefix.ends_tokens))
    assert prefix.ends_tokens[-1] == prefix.tokens
    assert len(prefix.hashes) == len(prefix.ends_tokens) == len(set(prefix.hashes))


def test_prompts_share_what_is_equal_from_their_beginning() -> None:
    prefix = "".join(f"{i:04d}" for i in range(6000))
    one = chain((Kind.TEXT, prefix + "a" * 4800))
    other = chain((Kind.TEXT, prefix + "b" * 4800))
    assert 0.97 * 6000 <= shared(one, other) <= 6000


def test_blocks_begin_anew_with_each_message() -> None:
    one = chain((Kind.SYSTEM, "x" * 1000), (Kind.USER, "a" * 500))
    other = chain((Kind.SYSTEM, "x" * 1000), (Kind.USER, "b" * 500))
    assert shared(one, other) == chain((Kind.SYSTEM, "x" * 1000)).tokens


def test_what_stands_before_a_block_is_in_its_hash() -> None:
    one = chain((Kind.USER, "a" * 256), (Kind.USER, "c" * 256))
    other = chain((Kind.USER, "b" * 256), (Kind.USER, "c" * 256))
    swapped = chain((Kind.USER, "c" * 256), (Kind.USER, "a" * 256))
    assert not set(one.hashes) & set(other.hashes)
    assert not set(one.hashes) & set(swapped.hashes)


def test_the_same_text_in_another_role_is_another_prompt() -> None:
    chains = [chain((kind, "hello")).hashes[0] for kind in Kind]
    assert len(set(chains)) == len(Kind)


def test_images_are_equal_by_content() -> None:
    one, same = (chain((Kind.IMAGE, "data:a"), (Kind.USER, "what?")) for _ in range(2))
    other = chain((Kind.IMAGE, "data:b"), (Kind.USER, "what?"))
    assert one == same
    assert shared(one, other) == 0


def test_long_prompts_have_few_blocks() -> None:
    assert len(chain((Kind.TEXT, "x" * 32_000)).hashes) < 100
    assert len(chain((Kind.TEXT, "x" * 1_000_000)).hashes) < 250


def test_the_last_turn_of_the_assistant_that_was_answered_is_known() -> None:
    turns: list[Part] = [
        (Kind.USER, "a"),
        (Kind.ASSISTANT, "b"),
        (Kind.USER, "c"),
        (Kind.ASSISTANT, "d"),
        (Kind.ASSISTANT, b"[calls]"),
        (Kind.TOOL, "e"),
    ]
    assert chain(*turns).answer == (3, 5)
    assert chain(*turns[:3]).answer == (1, 2)
    assert chain(*turns[:1]).answer is None
    assert chain(*turns[:2]).answer is None, "not followed by anything: the engine goes on with it"
    assert chain(*turns[1:3]).answer is None, "an answer to nothing"


def test_a_salt_separates_all_that_follows_it() -> None:
    parts: list[Part] = [(Kind.SYSTEM, "x" * 1000), (Kind.USER, "a"), (Kind.IMAGE, "data:b")]
    plain, first, again, other = (prefix_of(parts, salt) for salt in (0, 1 << 62, 1 << 62, -1))
    assert first == again
    assert (shared(plain, first), shared(first, other)) == (0, 0)
    assert prefix_of(parts) == plain
    assert [chain.ends_tokens for chain in (first, other)] == [plain.ends_tokens] * 2
    public = [prefix_of(parts, salt, salted_from=1) for salt in (0, 1, -1)]
    assert public[0] == plain
    system = prefix_of(parts[:1]).tokens
    assert [shared(plain, one) for one in public[1:]] == [system] * 2
    assert shared(*public[1:]) == system


def test_other_processes_have_the_same_hashes() -> None:
    """Python's own hash differs between processes."""
    code = (
        "from serving.placement.prefix import *\n"
        "print(prefix_of([(Kind.USER, 'hello'), (Kind.TOKEN_IDS, bytes(400))]).hashes)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = chain((Kind.USER, "hello"), (Kind.TOKEN_IDS, bytes(400))).hashes
    assert run.stdout.strip() == str(ours)
    assert all(-(1 << 63) <= block < 1 << 63 for block in ours)
