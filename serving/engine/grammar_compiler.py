"""Compiles grammars for `serving.engine.grammar_check`, one after another, as a program.

Reads frames from standard input: first `Tokens` as JSON, then grammars in the form that
`llguidance.LLMatcher` takes. Each of these it answers on standard output by the reason why no
answer can follow the grammar, which is empty if one can. The program ends with its input, or by
SIGPROF at a grammar that takes more than CPU_LIMIT_S.
"""

import json
import resource
import signal
import sys
from dataclasses import dataclass

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

CPU_LIMIT_S = 0.5
"""CPU time for one grammar. What users send takes 1 to 50 ms; some schemas of 100 bytes would take
seconds and a gigabyte, and some of 2 kB for ever."""

_STACK_BYTES = 4 << 20
"""Half the stack that an engine has for a grammar: one that nests so deeply ends this program, and
never an engine."""


_NOTHING = "NoExtension"
"""What llguidance's error begins with where no token can come next."""

_NAMES = "; following special tokens"
"""Begins a list of names that would make an error's message 1,500 characters long."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What grammars may name of a model's tokens."""

    control: list[str]
    """The names of the control tokens, which have the first ids."""
    eos: int
    count: int
    """The number of all tokens."""


class _Bytes:
    """A tokenizer with the control tokens of a model, a token for each byte, and as many tokens as
    the model has: whether an answer can follow a grammar depends on no more of them."""

    def __init__(self, tokens: Tokens) -> None:
        self.bos_token_id = self.eos_token_id = tokens.eos
        self.special_token_ids = list(range(len(tokens.control)))
        names = [_in_brackets(name).encode() for name in tokens.control]
        known = [*names, *(bytes([byte]) for byte in range(256))]
        self.tokens = known + [b""] * (tokens.count - len(known))

    def __call__(self, text: bytes) -> list[int]:
        return [len(self.special_token_ids) + byte for byte in text]


def _in_brackets(name: str) -> str:
    """Returns the name of a control token in the form that vLLM's tokenizer has for llguidance."""
    return f"<{name[1:-1]}>" if name.startswith("[") and name.endswith("]") else name


def fault_of(grammar: str, tokenizer: LLTokenizer) -> str:
    """Returns why no answer can follow a grammar; an empty text if one can."""
    matcher = LLMatcher(tokenizer, grammar, log_level=0)
    if not matcher.is_error():
        matcher.compute_bitmask()
    error: str = matcher.get_error()
    return "nothing matches it" if error.startswith(_NOTHING) else error.partition(_NAMES)[0]


def frame(text: str) -> bytes:
    """Returns a text in UTF-8 after its length in bytes: four bytes, the highest first."""
    data = text.encode()
    return len(data).to_bytes(4, "big") + data


def _read() -> str:
    """Returns the text of the next frame; an empty text at the end of the input."""
    size = int.from_bytes(sys.stdin.buffer.read(4), "big")
    return sys.stdin.buffer.read(size).decode()


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (_STACK_BYTES, hard))
    tokens = Tokens(**json.loads(_read()))
    tokenizer = LLTokenizer(TokenizerWrapper(_Bytes(tokens)), slices=[])
    while grammar := _read():
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
        reason = fault_of(grammar, tokenizer)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(frame(reason))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
