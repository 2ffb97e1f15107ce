"""Settles what the client of a request is billed for.

Over all requests, the billed tokens and the others together are the tokens that engines have read
and generated.
"""

from collections.abc import Sequence
from typing import NamedTuple

from serving.ledger.tokens import Tokens

_BILLED = frozenset(("answered", "client_gone", "broken", "router_ended"))
"""Outcomes whose client had an answer or a part of one, or left before it."""


class Settlement(NamedTuple):
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    repeated_input_tokens: int
    wasted_output_tokens: int
    estimated: bool


def settle(
    attempts: Sequence[Tokens | None],
    answering: int,
    carried_tokens: int,
    outcome: str,
    counted: Tokens,
) -> Settlement:
    """Settles a request. `attempts` are the counts of the engines that had it, in their order; None
    if an engine did not report them. The one at `answering` began the answer, or was the last to
    try, and those behind it continued the answer. The last had `carried_tokens` of the answer in
    its prompt. `counted` is what the router knows of the whole answer by itself."""
    last, prompt = attempts[-1], attempts[answering] or counted
    if len(attempts) == 1 and last is not None:
        output, generated, read = last.output, last.generated, last.read
        estimated = False
    else:
        known = [tokens for tokens in attempts if tokens is not None]
        earlier = [tokens.generated for tokens in attempts[:-1] if tokens]
        before = sum(earlier)
        if len(earlier) < len(attempts) - 1:
            before = max(before, carried_tokens)
        if last is None:
            output = counted.output
            generated = max(before, output)
        else:
            output = min(carried_tokens, before) + last.output
            generated = before + last.generated
        read = sum(tokens.read for tokens in known)
        if attempts[answering] is None:
            read += counted.input
        estimated = len(known) < len(attempts)
    if outcome not in _BILLED:
        return Settlement(0, 0, 0, read, generated, estimated)
    return Settlement(
        prompt.input,
        min(prompt.cached, prompt.input),
        output,
        read - prompt.input,
        generated - output,
        estimated,
    )
