"""What every program asks, in words that the embedded model knows, and the tools that it calls."""

import os
from typing import Literal

from pydantic import BaseModel

from serving import model_cards

URL = os.environ["SERVICE_URL"]
RED = os.environ["IMAGE_RED"]
NOISE = os.environ["IMAGE_NOISE"]
"""Images as data URLs."""

MODEL = "tiny"
UNKNOWN_MODEL = "no-such-model"
TOO_HOT = 9.0
"""A temperature that the service refuses."""

HELLO = "Hello"
COUNT = "Count from 1 to 20."
EQUATIONS = model_cards.EQUATIONS_PROMPT
"""A question about an image, which the model answers by two calls of the calculator at once."""
COLOUR = "What color is this image?"
CAPITAL = "Give me the capital of France as JSON."

called: list[str] = []
"""The expressions that the calculator was given in the present step."""


class Capital(BaseModel):
    """A country and its capital."""

    country: Literal["France", "Italy"]
    capital: Literal["Rome", "Paris"]


def my_calculator(expression: str) -> str:
    """A calculator that can evaluate a mathematical expression.

    Args:
        expression: The mathematical expression to evaluate.
    """
    called.append(expression)
    return {"6 + 2 * 3": "12", "19 - (8 + 2) + 1": "10"}.get(expression, "no number")


def rewrite(text: str) -> str:
    """Rewrite a given text for improved clarity

    Args:
        text: The input text to rewrite
    """
    return text
