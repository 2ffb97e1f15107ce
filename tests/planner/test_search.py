import pytest

from serving.planner.search import fewest


@pytest.mark.parametrize("needed", [1, 2, 3, 7, 16, 17, 19])
@pytest.mark.parametrize("first", [1, 5, 17])
def test_the_fewest_are_found_from_any_guess(needed: int, first: int) -> None:
    most = 4 * first + 4
    found = fewest(lambda number: number >= needed, first)
    assert found == (needed if needed <= most else None)


def test_of_many_one_that_is_close_is_enough() -> None:
    asked: list[int] = []

    def holds(number: int) -> bool:
        asked.append(number)
        return number >= 300

    found = fewest(holds, 200)
    assert found is not None
    assert 300 <= found <= 315
    assert len(asked) <= 6


def test_where_so_many_do_not_do_one_answer_is_enough() -> None:
    asked: list[int] = []

    def never(number: int) -> bool:
        asked.append(number)
        return False

    assert fewest(never, 3, 12) is None
    assert asked == [12]


def test_no_more_than_the_most_are_tried() -> None:
    asked: list[int] = []

    def holds(number: int) -> bool:
        asked.append(number)
        return number >= 5

    assert fewest(holds, 2, 9) == 5
    assert max(asked) == 9
    assert asked[1] == 2, "the guess is next"
