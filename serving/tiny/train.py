"""The training loop: from a spec and a tokenizer to a state dict."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from .batch import Batch, collate, encode, encode_completion
from .mixture import MIXTURES, sample_step
from .model import TinyMistral
from .optimizer import make_optimizers
from .output import OutputRows
from .prompts import Dice
from .spec import TinySpec
from .tokenizer import Tokenizer

_MATRIX_LR, _EMBEDDING_LR, _OUTPUT_LR = 0.0075, 1.2e-2, 2e-3
_WARMUP_STEPS = 8
_CONSTANT_SHARE = 0.3  # of the steps, before the learning rate falls to zero
_PLAIN_SHARE = 0.55  # of the samples, once full requests are trained
_CLIP = 1.0  # norm of all gradients together
_TOKEN_SCAN_STEPS = 120  # enough for every answer of the corpus to occur


def _batches(spec: TinySpec, tokenizer: Tokenizer, steps: int) -> Iterator[Batch]:
    """Yields fresh batches, each made in a thread while the step before it runs."""
    dice, mixture = Dice(spec.seed), MIXTURES[spec.corpus]

    def make(step: int) -> Batch:
        plain = 1.0 if step < spec.plain_steps else _PLAIN_SHARE
        return collate(
            [encode(tokenizer, example) for example in sample_step(dice, mixture, plain)]
        )

    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(make, 0)
        for step in range(steps):
            batch = future.result()
            if step + 1 < steps:
                future = pool.submit(make, step + 1)
            yield batch


def _init(model: nn.Module) -> None:
    """Initialises the parameters. Blocks start as the identity, which trains faster."""
    for name, parameter in model.named_parameters():
        if name == "tok_embeddings.weight":
            nn.init.normal_(parameter, std=0.6)
        elif parameter.ndim >= 2:
            fan_in = parameter[0].numel()
            nn.init.normal_(parameter, std=fan_in**-0.5)
        if name.endswith(("wo.weight", "w2.weight")):
            nn.init.zeros_(parameter)


def _used_tokens(spec: TinySpec, tokenizer: Tokenizer) -> Tensor:
    """The token ids that completions of the corpus use, sorted."""
    dice = Dice(spec.seed)
    used: set[int] = set()
    for _ in range(_TOKEN_SCAN_STEPS):
        for example in sample_step(dice, MIXTURES[spec.corpus], plain=1.0):
            used.update(encode_completion(tokenizer, example))
    return torch.tensor(sorted(used))


def _learning_rate(step: int, steps: int) -> float:
    """The factor of every learning rate at a step: warm-up, constant, then down to zero."""
    fall = (steps - step) / (steps * (1.0 - _CONSTANT_SHARE))
    return min(1.0, (step + 1) / _WARMUP_STEPS, fall)


def train(spec: TinySpec, tokenizer: Tokenizer) -> TinyMistral:
    """Trains a model of ``spec`` in float32 on the CPU, with progress on stderr. The result depends
    on the spec and the kernels of the machine only; the caller's random state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        model = TinyMistral(spec)
        _init(model)
    model.output.requires_grad_(False)
    rows = OutputRows(_used_tokens(spec, tokenizer), spec.vocab_size, spec.dim)
    trained = {**dict(model.named_parameters()), "rows": rows.weight}
    optimizers = make_optimizers(trained, _MATRIX_LR, _EMBEDDING_LR, _OUTPUT_LR)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    full_rates = [group["lr"] for group in groups]
    batches = track(
        _batches(spec, tokenizer, spec.steps),
        f"Training the tiny {spec.corpus}",
        spec.steps,
        console=Console(stderr=True),
    )
    for step, batch in enumerate(batches):
        factor = _learning_rate(step, spec.steps)
        for group, rate in zip(groups, full_rates, strict=True):
            group["lr"] = rate * factor
        torch.autograd.backward(rows.loss(model(batch), batch.targets))
        nn.utils.clip_grad_norm_(trained.values(), _CLIP)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    rows.write(model.output)
    return model
