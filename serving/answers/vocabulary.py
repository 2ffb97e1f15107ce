"""The tokens of a model, as the parser of its answers needs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mistral_common.tokens.tokenizers.base import SpecialTokens
from mistral_common.tokens.tokenizers.tekken import Tekkenizer


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All tokens by their ids, and the ids of the control tokens that structure an answer."""

    pieces: Sequence[bytes | None]
    """The bytes of each token; None for control tokens."""
    texts: Sequence[str | None]
    """The text of each token; None for control tokens and for parts of characters."""
    control: Mapping[int, str]
    """The names of the control tokens, such as "[TOOL_CALLS]"."""
    eos: int
    tool_calls: int | None
    args: int | None
    """None for tokenizer v7, which has all calls as one JSON array."""
    call_id: int | None
    think: int | None
    end_think: int | None
    image: int | None
    """Stands in a prompt for a part of an image."""
    end_system: int | None
    """Ends a system prompt."""
    ids: Mapping[str, int]
    """The ids of the tokens in `texts`."""

    def bytes_of(self, token_id: int) -> bytes:
        """Returns a token's bytes; for a control token those of its name."""
        piece = self.pieces[token_id]
        return self.control[token_id].encode() if piece is None else piece

    def text_of(self, token_id: int) -> str:
        """Returns a token's text, with replacement characters for parts of a character."""
        return self.bytes_of(token_id).decode("utf-8", "replace")


def of_tekken(tekkenizer: Tekkenizer) -> Vocabulary:
    """Returns the vocabulary of a tokenizer, which mistral_common has read."""
    first = tekkenizer.num_special_tokens
    control = {token_id: tekkenizer.id_to_piece(token_id) for token_id in range(first)}
    ids = {name: token_id for token_id, name in control.items()}
    words = [tekkenizer.id_to_byte_piece(token_id) for token_id in range(first, tekkenizer.n_words)]
    texts = [*(None for _ in control), *map(_text, words)]
    return Vocabulary(
        pieces=[*(None for _ in control), *words],
        texts=texts,
        ids={text: token_id for token_id, text in enumerate(texts) if text is not None},
        control=control,
        eos=tekkenizer.eos_id,
        tool_calls=ids.get(SpecialTokens.tool_calls.value),
        args=ids.get(SpecialTokens.args.value),
        call_id=ids.get(SpecialTokens.call_id.value),
        think=ids.get(SpecialTokens.begin_think.value),
        end_think=ids.get(SpecialTokens.end_think.value),
        image=ids.get(SpecialTokens.img.value),
        end_system=ids.get(SpecialTokens.end_system.value),
    )


def _text(piece: bytes) -> str | None:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return None
