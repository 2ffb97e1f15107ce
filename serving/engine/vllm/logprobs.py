"""Log-probabilities and prompts as vLLM tells of them, in the form that answers have them in."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vllm.logprobs import Logprob

from serving.answers.events import PromptTokens, TokenLogprob
from serving.answers.vocabulary import Vocabulary
from serving.requests.request import Request

Logprobs = Sequence[Mapping[int, Any]]
"""vLLM's log-probabilities: for each token those of some tokens, by their ids."""

_ALL = -1
"""Asks for the log-probabilities of all tokens."""

_LEAST = -9999.0
"""Stands for the log-probability of an impossible token, which JSON cannot express."""

_CERTAIN = Logprob(0.0, rank=1)


def certain(token_ids: Sequence[int]) -> Logprobs:
    """Returns what stands for the log-probabilities of tokens of which the client knows them."""
    return [{token_id: _CERTAIN} for token_id in token_ids]


class LogprobReader:
    """Reads what vLLM tells of one request's tokens."""

    def __init__(self, vocabulary: Vocabulary, request: Request) -> None:
        self._vocabulary = vocabulary
        self._count = request.sampling.logprobs or 0
        self._prompt_count = request.sampling.prompt_logprobs or 0
        self._left_out: Collection[int] = ()
        if request.skip_special_tokens:
            self._left_out = vocabulary.control

    def answer(self, token_ids: Sequence[int], logprobs: Logprobs) -> list[TokenLogprob]:
        """Returns the log-probabilities of an answer's next tokens."""
        return [
            self._token(token_id, known, self._count, token_id not in self._left_out)
            for token_id, known in zip(token_ids, logprobs, strict=True)
        ]

    def prompt(
        self, index: int, ids: list[int], logprobs: Sequence[Mapping[int, Any] | None] | None
    ) -> PromptTokens:
        """Returns the request's prompt at that index. Its first token has no log-probability."""
        vocabulary = self._vocabulary
        pieces = [vocabulary.pieces[token_id] for token_id in ids]
        told = None
        if logprobs is not None:
            told = [
                None
                if known is None
                else self._token(token_id, known, self._prompt_count, piece is not None)
                for token_id, known, piece in zip(ids, logprobs, pieces, strict=True)
            ]
        text = b"".join(piece or b"" for piece in pieces).decode("utf-8", "replace")
        first = TokenLogprob(
            ids[0], vocabulary.bytes_of(ids[0]), 0.0, in_text=pieces[0] is not None
        )
        return PromptTokens(index, ids, text, first, told)

    def _token(
        self, token_id: int, known: Mapping[int, Any], count: int, in_text: bool
    ) -> TokenLogprob:
        top = sorted(
            (value.rank, other)
            for other, value in known.items()
            if count == _ALL or value.rank <= count
        )
        others = tuple(self._one(other, known[other]) for _, other in top)
        return self._one(token_id, known[token_id], others, in_text)

    def _one(
        self,
        token_id: int,
        value: Any,
        top: tuple[TokenLogprob, ...] = (),
        in_text: bool = True,
    ) -> TokenLogprob:
        text = self._vocabulary.bytes_of(token_id)
        return TokenLogprob(token_id, text, max(value.logprob, _LEAST), top, value.rank, in_text)
