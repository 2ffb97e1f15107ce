"""Finds the least number for which something holds, where each test takes seconds."""

from collections.abc import Callable

_CLOSE = 20
"""Precision: a number is good enough if it exceeds one that is too small by less than a 20th."""
_MOST_TIMES = 4


def fewest(holds: Callable[[int], bool], first: int, most: int | None = None) -> int | None:
    """The least number for which `holds` is true, with few tests if it is close to `first`. `holds`
    must be true for all greater numbers. None if it is false for `most` or, without `most`, for
    four times `first` and 4."""
    too_few, enough = 0, None
    if most is None:
        most, number = _MOST_TIMES * first + _MOST_TIMES, first
    else:
        number = most  # whether there is any matters most
    while enough is None or enough - too_few > 1 + enough // _CLOSE:
        if holds(number):
            enough = number
        else:
            too_few = number
        if enough is None:
            if too_few >= most:
                return None
            number = min(number + max(number // 3, 1), most)
        elif too_few == 0:
            number = max(min(enough - 1, first if number > first else enough - enough // 4), 1)
        else:
            number = (too_few + enough) // 2
    return enough
