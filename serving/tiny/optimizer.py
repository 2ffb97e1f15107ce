"""The optimisers of the short training: Muon for the hidden matrices, Adam for the rest.

Muon (K. Jordan, 2024) takes steps of equal size in every direction of a weight matrix, which
learns in far fewer steps than Adam. Adam keeps the embeddings, the output and the norms.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Replaces the singular values of each matrix (batch, rows, columns) by about one."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result


class Muon(Optimizer):
    """Momentum whose update is made orthogonal; for two-dimensional parameters."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Applies one update; parameters of the same shape are processed together."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for shape, params in by_shape.items():
                updates = torch.stack([self._momentum(p, group["momentum"]) for p in params])
                scale = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for p, update in zip(params, orthogonalize(updates), strict=True):
                    p.sub_(update, alpha=scale)

    def _momentum(self, p: Tensor, momentum: float) -> Tensor:
        assert p.grad is not None
        state = self.state[p]
        if not state:
            state["buffer"] = torch.zeros_like(p)
        buffer: Tensor = state["buffer"]
        buffer.lerp_(p.grad, 1.0 - momentum)
        return p.grad.lerp(buffer, momentum)


def make_optimizers(
    parameters: Mapping[str, Tensor], matrix_lr: float, embedding_lr: float, output_lr: float
) -> list[Optimizer]:
    """Muon for the matrices between embedding and output, Adam for all other parameters.

    Parameters are named as in the model, the output rows ``"rows"``.
    """
    matrices, embedding, rest = [], [], []
    for name, parameter in parameters.items():
        if not parameter.requires_grad:
            continue
        if name.startswith("tok_embeddings"):
            embedding.append(parameter)
        elif parameter.ndim == 2 and name != "rows":
            matrices.append(parameter)
        else:
            rest.append(parameter)
    groups = [{"params": embedding, "lr": embedding_lr}, {"params": rest, "lr": output_lr}]
    adam = AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return [Muon(matrices, matrix_lr), adam]
