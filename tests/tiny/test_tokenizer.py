"""The cut tokenizer has the real one's special tokens and loses no text."""

from pathlib import Path

import pytest
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy

from serving import model_cards as doc
from serving.tiny.answers import SCRIPTS_ANSWER
from serving.tiny.batch import encode, encode_completion, encode_prompt
from serving.tiny.corpus import Example, ToolCall
from serving.tiny.images import png_data_url, solid_image
from serving.tiny.spec import TinySpec
from serving.tiny.tokenizer import Tokenizer, write_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return write_tokenizer(TinySpec(), tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize(
    ("token", "token_id"),
    [("<s>", 1), ("</s>", 2), ("[INST]", 3), ("[TOOL_CALLS]", 9), ("[IMG]", 10), ("<pad>", 11),
     ("[IMG_BREAK]", 12), ("[IMG_END]", 13), ("[SYSTEM_PROMPT]", 17), ("[ARGS]", 32),
     ("[CALL_ID]", 33)],
)  # fmt: skip
def test_special_token_ids(tokenizer: Tokenizer, token: str, token_id: int) -> None:
    assert tokenizer.instruct_tokenizer.tokenizer.get_special_token(token) == token_id


def test_sizes(tokenizer: Tokenizer) -> None:
    inner = tokenizer.instruct_tokenizer.tokenizer
    assert inner.num_special_tokens == 1000
    assert inner.n_words == TinySpec().vocab_size == TinySpec().params()["vocab_size"]
    assert inner.version.value == "v11"


@pytest.mark.parametrize("text", [SCRIPTS_ANSWER, "日本語 हिन्दी עברית 🧪", doc.FRENCH_ANSWER])
def test_every_text_round_trips(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.instruct_tokenizer.tokenizer.encode(text, bos=False, eos=False)
    assert tokenizer.decode(ids) == text


def test_version_is_a_parameter(tmp_path: Path) -> None:
    spec = TinySpec(tokenizer_version="v7", vision=None)
    tokenizer = write_tokenizer(spec, tmp_path)
    prompt, _ = encode_prompt(tokenizer, doc.chat("Be brief.", "Hello"), None)
    assert "vision_encoder" not in spec.params()
    assert tokenizer.decode(prompt) == "Be brief.Hello"


def test_call_completion_has_no_id(tokenizer: Tokenizer) -> None:
    calls = (ToolCall("f", {"x": 1}), ToolCall("g", {}))
    example = Example("calls", doc.chat(None, "Hello"), calls)
    text = tokenizer.decode(
        encode_completion(tokenizer, example), special_token_policy=SpecialTokenPolicy.KEEP
    )
    assert text == '[TOOL_CALLS]f[ARGS]{"x": 1}[TOOL_CALLS]g[ARGS]{}</s>'


def test_history_keeps_ids(tokenizer: Tokenizer) -> None:
    prompt, _ = encode_prompt(tokenizer, doc.weather_messages(None, "a1B2c3D4e"), doc.WEATHER_TOOLS)
    text = tokenizer.decode(prompt, special_token_policy=SpecialTokenPolicy.KEEP)
    assert "[TOOL_CALLS]rewrite[CALL_ID]a1B2c3D4e[ARGS]{" in text
    assert "[TOOL_RESULTS]a1B2c3D4e[TOOL_CONTENT]{" in text
    assert text.index("[AVAILABLE_TOOLS]") > text.index(doc.REWRITE_ANSWER)


def test_image_tokens(tokenizer: Tokenizer) -> None:
    url = png_data_url(solid_image((255, 0, 0), 300, 200))
    example = Example("image", [doc.image_message("Describe.", url)], "x")
    sequence = encode(tokenizer, example)
    counts = [sequence.prompt.count(token) for token in (10, 12, 13)]
    assert counts == [88, 7, 1]
    assert sequence.images[0].shape == (3, 224, 308)


def test_endless_completion_has_no_end(tokenizer: Tokenizer) -> None:
    ends = Example("x", doc.chat(None, "Hello"), "hello")
    endless = Example("x", doc.chat(None, "Hello"), "hello", ends=False)
    assert encode_completion(tokenizer, ends) == [*encode_completion(tokenizer, endless), 2]
