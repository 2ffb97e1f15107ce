import re
import xml.etree.ElementTree as ElementTree

import pytest

from serving.simulator.plot import Series, line_plot

WIDTH, HEIGHT = 460.8, 158.4


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iterfind(".//{*}text")]


def lines(svg: str) -> list[str]:
    """The paths inside the axes: grid lines, then one for each series, then the limit."""
    return [
        path.attrib["d"]
        for path in ElementTree.fromstring(svg).iterfind(".//{*}path[@clip-path]")
        if "fill: none" in path.get("style", "")
    ]


def numbers(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"[\d.]+", path)]


def test_a_plot_has_its_title_its_series_and_round_ticks() -> None:
    svg = line_plot("A & B", [Series("up", [(0.0, 0.0), (600.0, 37.0)])], unit=" ms")
    seen = texts(svg)
    assert "A & B" in seen and "up" in seen
    assert {"0 ms", "8 ms", "32 ms"} <= set(seen)
    assert {"0 min", "10 min"} <= set(seen)


@pytest.mark.parametrize(("seconds", "label"), [(60.0, "60 s"), (86400.0, "24 h")])
def test_times_have_a_unit_of_their_length(seconds: float, label: str) -> None:
    assert label in texts(line_plot("", [Series("a", [(0.0, 1.0), (seconds, 1.0)])]))


def test_a_line_breaks_where_there_is_no_value_and_a_point_alone_is_a_dot() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, 1.0)]
    svg = line_plot("", [Series("a", points)])
    path = lines(svg)[-1]
    assert (path.count("M"), path.count("L")) == (2, 1)
    whole = line_plot("", [Series("a", [(at, value or 0.0) for at, value in points])])
    assert svg.count("<use") == whole.count("<use") + 4


def test_steps_go_along_before_they_go_up() -> None:
    path = lines(line_plot("", [Series("a", [(0.0, 1.0), (10.0, 2.0)], steps=True)]))[-1]
    first_x, first_y, corner_x, corner_y, last_x, last_y = numbers(path)
    assert first_y == corner_y > last_y
    assert first_x < corner_x == last_x


def test_a_limit_is_a_dashed_line_within_the_plot() -> None:
    series = [Series("a", [(0.0, 0.1), (9.0, 0.2)])]
    svg = line_plot("", series, limit=2.0)
    assert "stroke-dasharray" in svg and "stroke-dasharray" not in line_plot("", series)
    x, y, other_x, other_y = numbers(lines(svg)[-1])
    assert y == other_y and 0 < y < HEIGHT / 2
    assert 0 < x < other_x <= WIDTH


def test_the_same_is_drawn_the_same() -> None:
    series = [Series("a", [(0.0, 0.1), (9.0, None)])]
    assert line_plot("a", series, limit=1.0) == line_plot("a", series, limit=1.0)


def test_nothing_to_plot_is_an_empty_plot() -> None:
    for series in ([], [Series("none", [])], [Series("none", [(0.0, None)])]):
        assert "0 s" in texts(line_plot("", series))
