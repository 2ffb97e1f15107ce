"""Trains the output layer for the few hundred tokens that completions use."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class OutputRows(nn.Module):
    """The output rows of the ``used`` token ids, and one row for all other tokens.

    A softmax in which the other tokens appear once, with the logarithm of their number added to the
    logit, equals the softmax over the whole vocabulary at a fraction of its cost.
    """

    def __init__(self, used: Tensor, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(used) + 1, dim))
        self.row_of_token = torch.full((vocab_size,), len(used))
        self.row_of_token[used] = torch.arange(len(used))
        self.bias = torch.zeros(len(used) + 1)
        self.bias[-1] = math.log(vocab_size - len(used))

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean cross entropy of target ids, for hidden states (targets, dim)."""
        logits = F.linear(hidden, self.weight, self.bias)
        return F.cross_entropy(logits, self.row_of_token[targets])

    @torch.no_grad()
    def write(self, output: nn.Linear) -> None:
        """Sets the row of every token of the full output layer."""
        output.weight.copy_(self.weight[self.row_of_token])
