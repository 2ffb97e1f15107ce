"""Separates Magistral's `<think>` text from the answer after it."""

OPEN = "<think>"
CLOSE = "</think>"
OPENED = f"{OPEN}\n"
CLOSED = f"\n{CLOSE}\n"
"""What the model writes before and after its reasoning."""

BEFORE, INSIDE, AFTER = range(3)


def reasoning_fields(reasoning: str) -> dict[str, str]:
    """Returns the fields of a message or a delta that have this reasoning, by vLLM's name of today
    and by its former one, the only one that many clients read."""
    return {"reasoning": reasoning, "reasoning_content": reasoning}


def tagged(reasoning: str) -> str:
    """Returns the reasoning as the model writes it before an answer; the inverse of
    `ThinkSplitter`."""
    return f"{OPENED}{reasoning}{CLOSED}"


class ThinkSplitter:
    """Splits an answer into reasoning and content as it arrives, however it is cut into pieces.

    The first `<think>` begins the reasoning and the first `</think>` after it ends it; a newline
    inside each tag and the white space before the answer belong to neither. Text before `<think>`,
    and all of an answer without it, is content. An answer that ends inside is all reasoning.
    """

    __slots__ = ("_held", "_state", "_trim")

    def __init__(self) -> None:
        self._state = BEFORE
        self._held = ""  # may be the beginning of a tag
        self._trim = False

    def skip(self, text: str) -> None:
        """Begins after this text, which is the beginning of the answer."""
        self.feed(text)
        self._held = ""

    def feed(self, text: str) -> tuple[str, str]:
        """Returns the reasoning and content in the next piece of the answer."""
        text = self._held + text
        self._held = reasoning = content = ""
        if self._state == BEFORE:
            content, found, text = text.partition(OPEN)
            if not found:
                return "", self._hold_back(content, OPEN)
            self._state, self._trim = INSIDE, True
        if self._state == INSIDE:
            if self._trim and text:
                text = text.removeprefix("\n")
                self._trim = False
            reasoning, found, text = text.partition(CLOSE)
            if not found:
                return self._hold_back(reasoning, "\n" + CLOSE, CLOSE), content
            reasoning = reasoning.removesuffix("\n")
            self._state, self._trim = AFTER, True
        if self._trim:
            text = text.lstrip()
            self._trim = not text
        return reasoning, content + text

    def finish(self) -> tuple[str, str]:
        """Returns the reasoning and content held back, when the answer has ended."""
        held, self._held = self._held, ""
        return (held, "") if self._state == INSIDE else ("", held)

    def _hold_back(self, text: str, *tags: str) -> str:
        """Returns the text without a suffix that may be the beginning of a tag; that is held
        back."""
        for length in range(min(len(tags[0]) - 1, len(text)), 0, -1):
            if any(tag.startswith(text[-length:]) for tag in tags):
                self._held = text[-length:]
                return text[:-length]
        return text
