"""The prompts of a conversation, each of which continues the answer to the one before."""

from serving.placement import Prefix


class Conversation:
    """The prompts of a conversation whose context grows by `tokens` with each turn."""

    def __init__(self, number: int, tokens: int) -> None:
        self.tokens = tokens
        self.prompt = Prefix([1000 * number], [tokens], tokens)

    def answered(self) -> None:
        hashes, ends = self.prompt.hashes, self.prompt.ends_tokens
        total = self.prompt.tokens + self.tokens
        self.prompt = Prefix(
            [*hashes, hashes[-1] + 1, hashes[-1] + 2],
            [*ends, ends[-1] + 1, total],
            total,
            answer=(len(hashes), len(hashes) + 1),
        )
