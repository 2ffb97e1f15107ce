"""Converts examples to token ids, and token ids to the batches of a training step."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from mistral_common.protocol.instruct.messages import AssistantMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import FunctionCall
from mistral_common.protocol.instruct.tool_calls import ToolCall as MistralToolCall
from torch import Tensor

from serving.model_cards import Message, Tool

from .corpus import Example
from .tokenizer import Tokenizer

_PAD = 11
_MAX_PADDING = 1.15  # ratio of a block's longest sequence to its shortest, at most


@dataclass(frozen=True)
class Sequence:
    """Token ids of a prompt and its completion, with the prompt's images (3, height, width)."""

    prompt: list[int]
    completion: list[int]
    images: list[npt.NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True)
class Batch:
    """Sequences of similar length in right-padded blocks, laid end to end.

    ``blocks`` holds (sequences, padded length) of each block; ``targets`` the token ids to
    predict at the indices ``at`` of the flat ``tokens``.
    """

    tokens: Tensor
    positions: Tensor
    blocks: list[tuple[int, int]]
    images: list[Tensor]
    at: Tensor
    targets: Tensor


def encode_prompt(
    tokenizer: Tokenizer, messages: list[Message], tools: list[Tool] | None
) -> tuple[list[int], list[npt.NDArray[np.float32]]]:
    """Token ids and images of an OpenAI-style request, encoded by mistral-common as in a server."""
    arguments: dict[str, Any] = {"messages": messages}
    if tools is not None:
        arguments["tools"] = tools
    encoded = tokenizer.encode_chat_completion(ChatCompletionRequest.from_openai(**arguments))
    return encoded.tokens, [image.astype(np.float32) for image in encoded.images]


def encode_completion(tokenizer: Tokenizer, example: Example) -> list[int]:
    """Token ids that the model must generate, with the end of sequence if the answer ends. Calls
    have no id: servers invent ids, and vLLM's grammar forbids ``[CALL_ID]``."""
    if isinstance(example.answer, str):
        message = AssistantMessage(content=example.answer)
    else:
        calls = [
            MistralToolCall(function=FunctionCall(name=c.name, arguments=json.dumps(c.arguments)))
            for c in example.answer
        ]
        message = AssistantMessage(content=None, tool_calls=calls)
    encoder: Any = tokenizer.instruct_tokenizer
    tokens: list[int] = encoder.encode_assistant_message(message, False)
    return tokens if example.ends else tokens[:-1]


def encode(tokenizer: Tokenizer, example: Example) -> Sequence:
    """The training sequence of an example."""
    prompt, images = encode_prompt(tokenizer, example.messages, example.tools)
    return Sequence(prompt, encode_completion(tokenizer, example), images)


def collate(sequences: list[Sequence]) -> Batch:
    """One batch of sequences, sorted by length so that little of it is padding."""
    ordered = sorted(sequences, key=len)
    groups: list[list[Sequence]] = []
    for sequence in ordered:
        if not groups or len(sequence) > _MAX_PADDING * len(groups[-1][0]) + 8:
            groups.append([])
        groups[-1].append(sequence)
    tokens: list[int] = []
    positions: list[int] = []
    at: list[int] = []
    targets: list[int] = []
    for group in groups:
        length = len(group[-1])
        for sequence in group:
            first = len(tokens) + len(sequence.prompt) - 1
            at += range(first, first + len(sequence.completion))
            targets += sequence.completion
            tokens += sequence.prompt + sequence.completion
            tokens += [_PAD] * (length - len(sequence))
            positions += range(length)
    return Batch(
        tokens=torch.tensor(tokens),
        positions=torch.tensor(positions),
        blocks=[(len(group), len(group[-1])) for group in groups],
        images=[torch.from_numpy(image) for sequence in ordered for image in sequence.images],
        at=torch.tensor(at),
        targets=torch.tensor(targets),
    )
