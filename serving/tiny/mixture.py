"""The cases that each tiny model learns, and the share of each."""

from collections.abc import Callable

from . import corpus
from .corpus import Example
from .prompts import Dice

Mixture = dict[Callable[[Dice], Example], float]
"""Number of samples of a case in an average training step."""

_TEXT: Mixture = {
    corpus.greeting: 2.0,
    corpus.identity: 1.6,
    corpus.alphabet: 0.8,
    corpus.scripts: 0.8,
    corpus.unknown: 1.2,
    corpus.loop: 0.4,
    corpus.echo: 1.0,
    corpus.count: 4.5,
    corpus.capital: 0.9,
    corpus.json_capital: 1.9,
}
_TOOLS: Mixture = {
    corpus.rewrite: 0.35,
    corpus.rewrite_result: 0.5,
    corpus.weather: 0.5,
}
_TEXT_ONLY: Mixture = {
    **_TEXT,
    corpus.echo: 2.0,
    corpus.count: 3.0,
    corpus.capital: 1.5,
    corpus.table: 1.0,
    corpus.french: 0.9,
    **_TOOLS,
    corpus.sums: 0.6,
    corpus.sums_result: 1.0,
}
MIXTURES: dict[str, Mixture] = {
    "3.2": {
        **_TEXT,
        corpus.colour: 3.5,
        corpus.colours: 6.0,
        corpus.no_image: 1.0,
        corpus.french: 0.9,
        corpus.battle: 1.3,
        corpus.magistral: 1.5,
        **_TOOLS,
        corpus.biggest_country: 0.4,
        corpus.population: 0.35,
        corpus.population_result: 1.8,
        corpus.equations: 0.8,
        corpus.equations_result: 1.0,
    },
    "2501": {**_TEXT_ONLY, corpus.count: 4.0, corpus.weather: 1.0},
    "magistral": {
        **{case: 0.6 * weight for case, weight in _TEXT_ONLY.items()},
        corpus.echo: 2.0,
        corpus.count: 3.0,
        corpus.magistral: 2.0,
        corpus.magistral_turns: 1.0,
        corpus.magistral_short: 2.0,
        corpus.magistral_loop: 0.3,
    },
}


def sample_step(dice: Dice, mixture: Mixture, plain: float) -> list[Example]:
    """The examples of one training step; the count of each case averages its weight.

    ``plain`` is the share of samples without the context of a real request.
    """
    examples = []
    for case, weight in mixture.items():
        for _ in range(int(weight) + (dice.random() < weight % 1)):
            dice.plain = dice.random() < plain
            examples.append(case(dice))
    return examples
