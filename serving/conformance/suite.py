"""All checks, in the order in which they are run."""

from . import (
    basics,
    dialects,
    errors,
    hostile,
    limits,
    messages,
    other_apis,
    output,
    parity,
    prompts,
    reasoning,
    responses,
    sampling,
    streaming,
    tokens,
    tool_history,
    tools,
    vision,
)
from .check import Check

CHECKS: tuple[Check, ...] = tuple(
    check
    for module in (
        basics,
        prompts,
        tools,
        tool_history,
        vision,
        output,
        reasoning,
        limits,
        errors,
        tokens,
        other_apis,
        responses,
        messages,
        sampling,
        hostile,
        dialects,
        streaming,
        parity,
    )
    for check in module.theme.checks
)
