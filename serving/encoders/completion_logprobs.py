"""Writes log-probabilities in the form of OpenAI's completions API."""

import codecs
from collections.abc import Sequence

from serving.answers.events import TokenLogprob
from serving.requests.request import JsonObject

_Decoder = codecs.getincrementaldecoder("utf-8")

_LEAST = -9999.0
"""Stands for a probability of zero, whose logarithm JSON cannot express."""


class CompletionLogprobs:
    """Writes the log-probabilities of a choice's tokens, in one part or in several."""

    def __init__(self, tokens_as_ids: bool) -> None:
        """`tokens_as_ids` names tokens by their ids, as vLLM's `return_tokens_as_token_ids`."""
        self._tokens_as_ids = tokens_as_ids
        self._offset = 0
        self._decoder = _Decoder("replace")

    def of(
        self, tokens: Sequence[TokenLogprob | None], first: TokenLogprob | None = None
    ) -> JsonObject:
        """Returns the object for the next tokens. None is a token without a log-probability, which
        only a prompt's first token is: it is `first`."""
        offsets: list[int] = []
        names: list[str] = []
        logprobs: list[float | None] = []
        top: list[dict[str, float] | None] = []
        for token in tokens:
            shown = token or first
            assert shown is not None
            offsets.append(self._offset)
            if shown.in_text:
                self._offset += len(self._decoder.decode(shown.bytes))
            names.append(self._name(shown))
            logprobs.append(None if token is None else max(token.logprob, _LEAST))
            top.append(None if token is None else self._top(token))
        return {
            "text_offset": offsets,
            "token_logprobs": logprobs,
            "tokens": names,
            "top_logprobs": top,
        }

    def _top(self, token: TokenLogprob) -> dict[str, float]:
        """Returns the sampled token and the most probable ones. Where two have the same text, the
        more probable one stays."""
        top = {self._name(token): max(token.logprob, _LEAST)}
        for other in token.top:
            top.setdefault(self._name(other), max(other.logprob, _LEAST))
        return top

    def _name(self, token: TokenLogprob) -> str:
        return token.name(self._tokens_as_ids)
