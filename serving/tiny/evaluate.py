"""Computes a trained model's answers and their margins, in this project's own network."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from serving.model_cards import Message, Tool

from .batch import Sequence, collate, encode, encode_prompt
from .corpus import Example
from .mixture import MIXTURES
from .model import TinyMistral
from .prompts import Dice
from .spec import TinySpec
from .tokenizer import Tokenizer, load_tokenizer

WEIGHTS_FILE, PARAMS_FILE = "consolidated.safetensors", "params.json"


class TinyModel:
    """A model folder loaded for inference, in bfloat16 as servers run it.

    Raises ``ValueError`` if the folder was made from another spec.
    """

    def __init__(self, folder: Path, spec: TinySpec | None = None) -> None:
        spec = spec or TinySpec()
        if json.loads((folder / PARAMS_FILE).read_text()) != spec.params():
            raise ValueError(f"{folder} holds a model of another spec")
        self.tokenizer = load_tokenizer(folder)
        self.network = TinyMistral(spec).to(torch.bfloat16).eval()
        self.network.load_state_dict(load_file(folder / WEIGHTS_FILE))

    def margins(self, example: Example) -> Tensor:
        """Logit margins (completion tokens,) of an example; see ``token_margins``."""
        return token_margins(self.network, encode(self.tokenizer, example))

    def generate(
        self, messages: list[Message], tools: list[Tool] | None = None, max_tokens: int = 200
    ) -> list[int]:
        """Greedy token ids for an OpenAI-style request, without the end of sequence."""
        prompt, images = encode_prompt(self.tokenizer, messages, tools)
        eos = self.tokenizer.instruct_tokenizer.tokenizer.eos_id
        answer: list[int] = []
        while len(answer) < max_tokens:
            token = self._next(Sequence([*prompt, *answer], [eos], images))
            if token == eos:
                break
            answer.append(token)
        return answer

    @torch.inference_mode()
    def _next(self, sequence: Sequence) -> int:
        batch = collate([sequence])
        logits = self.network.output(self.network(batch))
        return int(logits.argmax())


@torch.inference_mode()
def token_margins(network: TinyMistral, sequence: Sequence) -> Tensor:
    """Logit of each expected token less that of the best other one, given the tokens before it.

    If all are positive, greedy decoding gives exactly the expected completion. Divided by the
    sampling temperature a margin is the logarithm of the odds against the runner-up.
    """
    batch = collate([sequence])
    logits = network.output(network(batch)).float()
    expected = logits.gather(1, batch.targets[:, None])
    best_other = logits.scatter(1, batch.targets[:, None], -torch.inf).amax(1, keepdim=True)
    margins: Tensor = (expected - best_other)[:, 0]
    return margins


def case_margins(
    network: TinyMistral, tokenizer: Tokenizer, samples: int, seed: int
) -> dict[str, list[float]]:
    """The smallest margin of each of ``samples`` fresh samples of every case that was learnt."""
    dice = Dice(seed)
    margins: dict[str, list[float]] = {}
    for case in MIXTURES[network.spec.corpus]:
        for _ in range(samples):
            example = case(dice)
            margin = float(token_margins(network, encode(tokenizer, example)).min())
            margins.setdefault(example.case, []).append(margin)
    return margins
