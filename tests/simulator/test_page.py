import re
import xml.etree.ElementTree as ElementTree

from serving.simulator.page import page
from serving.simulator.rows import rows
from tests.simulator.reports import refused, scaled


def test_the_page_stands_alone() -> None:
    report = scaled()
    text = page(report)
    assert "a &lt; b" in text
    for name, value in rows(report):
        assert name in text and value in text
    assert all(link.startswith("#") for link in re.findall(r'(?:src|href)="([^"]*)"', text))
    assert not re.search(r"<script|@import|url\((?!#)", text)
    plots = [f"<svg{part.split('</svg>')[0]}</svg>" for part in text.split("<svg")[1:]]
    assert len(plots) == 8
    for plot in plots:
        assert ElementTree.fromstring(plot).findall(".//{*}g[@id='axes_1']")


def test_the_same_report_is_the_same_page() -> None:
    assert page(scaled()) == page(scaled())


def test_a_run_of_refusals_has_a_page() -> None:
    assert "5 (100.00%)" in page(refused())
