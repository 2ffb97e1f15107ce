"""All checks, in the order in which they are run."""

from . import (
    basics,
    dialects,
    errors,
    limits,
    other_apis,
    output,
    prompts,
    reasoning,
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
        dialects,
        streaming,
    )
    for check in module.theme.checks
)
