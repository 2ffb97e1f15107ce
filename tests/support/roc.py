"""How well a measurement tells two cases apart."""

from collections.abc import Sequence


def area_under_roc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Returns the chance that a value of a positive case is above one of a negative case, ties
    counted by half: 0.5 tells nothing, and so far from it either way tells the cases apart."""
    ranked = sorted([(value, 1) for value in positive] + [(value, 0) for value in negative])
    above = 0.0
    below = first = 0
    while first < len(ranked):
        last = first
        while last < len(ranked) and ranked[last][0] == ranked[first][0]:
            last += 1
        ones = sum(label for _, label in ranked[first:last])
        above += ones * (below + (last - first - ones) / 2)
        below += last - first - ones
        first = last
    return above / (len(positive) * len(negative))
