"""vLLM computes what Transformers does with the same weights, by its own implementation of the
network and by that of Transformers, which takes text alone: for images vLLM wants an image
processor in Hugging Face's format, and Mistral's is in mistral_common."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from transformers import AutoModelForCausalLM, Mistral3ForConditionalGeneration

from serving import model_cards as doc
from serving.tiny import tiny_model_folder
from serving.tiny.images import COLOURS, png_data_url, solid_image
from tests.e2e.batches import batch, read, request, write
from tests.support.hugging_face import write_hugging_face

pytestmark = pytest.mark.full

TOLERANCE = 1e-4
"""The largest difference of two log-probabilities. Both sides compute in float32, whose rounding
(6e-8) grows over a network's sums of a few hundred products to about 1e-5."""
TOP = 5
TEXT = "2501"
VISION = "3.2"

CHATS: dict[str, list[list[dict[str, Any]]]] = {
    TEXT: [
        [
            {"role": "system", "content": doc.CAT_SYSTEM_PROMPT},
            {"role": "user", "content": doc.FRENCH_PROMPT},
        ],
        [{"role": "user", "content": "Was der Engel nie gelernt hat: 東京 🎉"}],
    ],
    VISION: [
        [
            doc.image_message(
                "What color is this image?",
                png_data_url(solid_image(COLOURS[colour][0], height, width)),
            )
        ]
        for colour, height, width in (("red", 56, 56), ("blue", 84, 140))
    ],
}


@pytest.fixture(scope="module", params=[TEXT, VISION])
def preset(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(preset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in Hugging Face's format."""
    folder = tmp_path_factory.mktemp("hugging-face") / preset
    write_hugging_face(tiny_model_folder(preset), folder)
    return folder


def asked(tmp_path: Path, preset: str, *settings: str) -> list[Any]:
    """The answers of vLLM to the chats, in float32."""
    names = {TEXT: "tiny-mistral-small-2501", VISION: "tiny-mistral-small-3.2"}
    fields = {
        **{"max_tokens": 12, "logprobs": True, "top_logprobs": TOP},
        **{"prompt_logprobs": 0, "return_token_ids": True, "model": None},
    }
    lines = [
        request(str(number), "chat/completions", messages=messages, **fields)
        for number, messages in enumerate(CHATS[preset])
    ]
    source, out = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    options = ["--set", "vllm_args.dtype=float32", "--model", names[preset]]
    for setting in settings:
        options += ["--set", setting]
    result = batch(source, out, *options)
    assert result.returncode == 0, result.stderr
    answers = read(out)
    return [answers[line["custom_id"]]["response"]["body"] for line in lines]


def assert_same(answers: list[Any], preset: str, folder: Path) -> None:
    """Asserts that Transformers gives the same tokens the same log-probabilities."""
    load = Mistral3ForConditionalGeneration if preset == VISION else AutoModelForCausalLM
    model = load.from_pretrained(folder, dtype=torch.float32)
    tokenizer = MistralTokenizer.from_file(str(folder / "tekken.json"))
    for messages, answer in zip(CHATS[preset], answers, strict=True):
        encoded = tokenizer.encode_chat_completion(ChatCompletionRequest(messages=messages))
        (choice,) = answer["choices"]
        assert answer["prompt_token_ids"] == encoded.tokens
        tokens = encoded.tokens + choice["token_ids"]
        images = {}
        if encoded.images:
            pixels = torch.tensor(encoded.images[0]).float().unsqueeze(0)
            sizes = torch.tensor([pixels.shape[-2:]])
            images = {"pixel_values": pixels, "image_sizes": sizes}
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokens]), **images).logits[0]
        expected = logits.log_softmax(-1)

        given = answer["prompt_logprobs"]
        assert given[0] is None and len(given) == len(encoded.tokens)
        for position in range(1, len(given)):
            token = tokens[position]
            of_token = given[position][str(token)]["logprob"]
            assert of_token == pytest.approx(float(expected[position - 1, token]), abs=TOLERANCE)

        steps = choice["logprobs"]["content"]
        assert len(steps) == len(choice["token_ids"])
        for number, (step, token) in enumerate(zip(steps, choice["token_ids"], strict=True)):
            next_token = expected[len(encoded.tokens) - 1 + number]
            assert int(next_token.argmax()) == token
            top = [each["logprob"] for each in step["top_logprobs"]]
            assert top == pytest.approx(next_token.topk(TOP).values.tolist(), abs=TOLERANCE)


def test_vllms_network_computes_as_transformers(preset: str, folder: Path, tmp_path: Path) -> None:
    assert_same(asked(tmp_path, preset), preset, folder)


@pytest.mark.parametrize("preset", [TEXT], indirect=True)
def test_transformers_network_runs_in_vllm(preset: str, folder: Path, tmp_path: Path) -> None:
    answers = asked(tmp_path, preset, "model_impl=transformers", f"weights={folder}")
    assert_same(answers, preset, folder)
