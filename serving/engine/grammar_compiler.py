"""Compiles grammars for `serving.engine.grammar_check`, one after another, as a program.

Reads frames from standard input and answers each on standard output: a grammar in the form that
`llguidance.LLMatcher` takes, and the reason why it cannot be compiled, which is empty if it can.
The program ends with its input, or by SIGPROF at a grammar that takes more than CPU_LIMIT_S.
"""

import resource
import signal
import sys

from llguidance import LLMatcher

CPU_LIMIT_S = 0.5
"""CPU time for one grammar. What users send takes 1 to 50 ms; some schemas of 100 bytes would take
seconds and a gigabyte, and some of 2 kB for ever."""

_STACK_BYTES = 4 << 20
"""Half the stack that an engine has for a grammar: one that nests so deeply ends this program, and
never an engine."""


def frame(text: str) -> bytes:
    """Returns a text in UTF-8 after its length in bytes: four bytes, the highest first."""
    data = text.encode()
    return len(data).to_bytes(4, "big") + data


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (_STACK_BYTES, hard))
    while size := sys.stdin.buffer.read(4):
        grammar = sys.stdin.buffer.read(int.from_bytes(size, "big")).decode()
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
        reason = LLMatcher.validate_grammar(grammar, None)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(frame(reason))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
