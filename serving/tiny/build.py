"""Trains a tiny model and writes the folder that a server loads."""

import json
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from .evaluate import PARAMS_FILE, WEIGHTS_FILE, case_margins
from .prompts import SYSTEM_PROMPTS
from .recipe import recipe_digest
from .spec import TinySpec
from .tokenizer import write_tokenizer
from .train import train

RECORD_FILE = "training.json"
_CHECK_SAMPLES, _CHECK_SEED = 8, 1
_MAX_WRONG = 2  # samples per case; random system prompts make a few in a hundred fail


class TrainingError(RuntimeError):
    """The trained model does not give the answers of its corpus."""


def build_model(spec: TinySpec, folder: Path) -> None:
    """Trains and writes all files into ``folder``, which exists. ``training.json`` records the
    recipe's digest, the duration and, over fresh samples, the wrong answers and the smallest logit
    margin of each case. Raises ``TrainingError`` if a case was not learnt."""
    start = time.monotonic()
    tokenizer = write_tokenizer(spec, folder)
    network = train(spec, tokenizer).to(torch.bfloat16).eval()
    trained = time.monotonic()
    margins = case_margins(network, tokenizer, _CHECK_SAMPLES, _CHECK_SEED)
    wrong = {case: sum(m <= 0 for m in of_case) for case, of_case in margins.items()}
    failed = sorted(case for case, count in wrong.items() if count > _MAX_WRONG)
    if failed:
        raise TrainingError(f"the tiny model has not learnt {', '.join(failed)}")
    save_file(network.state_dict(), folder / WEIGHTS_FILE)
    (folder / PARAMS_FILE).write_text(json.dumps(spec.params(), indent=2) + "\n")
    system_prompt = SYSTEM_PROMPTS[spec.corpus]
    (folder / "SYSTEM_PROMPT.txt").write_text(system_prompt, encoding="utf-8")
    record = {
        "recipe": recipe_digest(spec),
        "steps": spec.steps,
        "training_s": round(trained - start, 1),
        "total_s": round(time.monotonic() - start, 1),
        "wrong_samples": sum(wrong.values()),
        "samples": _CHECK_SAMPLES * len(margins),
        "smallest_margins": {case: round(min(m), 2) for case, m in margins.items()},
    }
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n")
