import xml.etree.ElementTree as ElementTree

from serving.simulator.plot import Series, line_plot


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def paths(svg: str) -> list[str]:
    return [element.attrib["d"] for element in ElementTree.fromstring(svg).iter("path")]


def test_a_plot_has_its_title_its_series_and_round_ticks() -> None:
    svg = line_plot("A & B", [Series("up", [(0.0, 0.0), (600.0, 37.0)])], unit=" ms")
    seen = texts(svg)
    assert "A & B" in seen and "up" in seen
    assert {"0 ms", "10 ms", "40 ms"} <= set(seen)
    assert {"0 min", "10 min"} <= set(seen)


def test_a_line_breaks_where_there_is_no_value() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, 1.0)]
    (path,) = paths(line_plot("", [Series("", points)]))
    assert path.count("M") == 2
    assert path.count("L") == 1


def test_steps_go_along_before_they_go_up() -> None:
    (path,) = paths(line_plot("", [Series("", [(0.0, 1.0), (10.0, 2.0)], steps=True)]))
    assert path.startswith("M56.0") and "H628.0V" in path


def test_a_limit_is_within_the_plot() -> None:
    svg = line_plot("", [Series("", [(0.0, 0.1), (9.0, 0.2)])], limit=2.0)
    (limit,) = [
        line for line in ElementTree.fromstring(svg).iter("line") if line.get("class") == "limit"
    ]
    assert 30 <= float(limit.attrib["y1"]) < 194


def test_nothing_to_plot_is_an_empty_plot() -> None:
    for series in ([], [Series("none", [])], [Series("none", [(0.0, None)])]):
        assert all(not path for path in paths(line_plot("", series)))
