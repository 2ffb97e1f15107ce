"""Two hundred and thirty texts that repeat themselves as valid answers do."""

from collections.abc import Iterator
from itertools import islice

_WORDS = [
    *("river", "stone", "window", "garden", "letter", "market", "silver", "winter", "candle"),
    *("bridge", "orange", "summer", "pencil", "forest", "island", "mirror", "basket", "copper"),
    *("valley", "harbor"),
]
_COUNTS = (5, 20, 30, 50, 100)


def texts() -> dict[str, str]:
    """Returns the texts by descriptive names; always the same ones."""
    return {
        f"{kind} {i}": text
        for kind, of_kind in _KINDS.items()
        for i, text in enumerate(islice(of_kind(), 10))
    }


def _tables_of_equal_rows() -> Iterator[str]:
    for rows in _COUNTS:
        for cells in ("| 0 | 0 | 0 | 0 |", "| n/a | n/a | - | 0.00 |"):
            yield "| a | b | c | d |\n|---|---|---|---|\n" + f"{cells}\n" * rows


def _wide_tables() -> Iterator[str]:
    for columns in (6, 9, 12, 15, 18, 21, 24, 27, 30, 40):
        header = "".join(f"| C{i} " for i in range(columns)) + "|\n"
        row = "| yes " * columns + "|\n"
        yield header + "|---" * columns + "|\n" + row * 3


def _tables_of_counted_rows() -> Iterator[str]:
    for rows in (10, 20, 30, 40, 50, 60, 70, 80, 90, 100):
        yield "| id | state |\n|---|---|\n" + "".join(f"| {i} | ok |\n" for i in range(rows))


def _lists_of_zeros() -> Iterator[str]:
    for count in (50, 100, 150, 200, 250):
        yield "[" + ", ".join(["0"] * count) + "]"
        yield "[" + ",".join(["0.0"] * count) + "]"


def _zero_matrices() -> Iterator[str]:
    for size in (5, 8, 10, 12, 16, 20, 24, 28, 30, 32):
        row = "[" + ", ".join(["0"] * size) + "]"
        yield "matrix = [\n" + f"    {row},\n" * size + "]\n"


def _equal_json_rows() -> Iterator[str]:
    for rows in _COUNTS:
        for row in ('{"id": 0, "name": "", "active": false}', '{"x": 1, "y": null}'):
            yield "[" + ", ".join([row] * rows) + "]"


def _indented_json() -> Iterator[str]:
    for rows in (3, 6, 10, 15, 20, 25, 30, 50, 75, 100):
        body = ",\n".join(['    {\n      "name": "",\n      "value": 0\n    }'] * rows)
        yield '{\n  "items": [\n' + body + "\n  ]\n}"


def _rules_of_one_character() -> Iterator[str]:
    for character in "=-_*#~.+ 0":
        yield f"Title\n{character * 200}\nText under it, and one more.\n{character * 200}\n"


def _box_drawings() -> Iterator[str]:
    for width in (20, 30, 40, 50, 60, 70, 80, 90, 100, 120):
        inside = "│" + " " * width + "│\n"
        yield "┌" + "─" * width + "┐\n" + inside * 12 + "└" + "─" * width + "┘"


def _ascii_art() -> Iterator[str]:
    for size in (8, 12, 16, 20, 24, 28, 32, 36, 40, 44):
        yield "\n".join(" " * (size - i) + "* " * i for i in range(1, size))


def _chess_boards() -> Iterator[str]:
    for size in (6, 8, 10, 12, 14, 16, 18, 20, 22, 24):
        yield "\n".join(("# . " * size)[i % 2 * 2 :][: size * 2] for i in range(size))


def _base64_of_zeros() -> Iterator[str]:
    for count in (64, 128, 192, 256, 320, 384, 448, 512, 768, 1024):
        yield "data:application/octet-stream;base64," + "A" * count + "=="


def _hex_dumps() -> Iterator[str]:
    for rows in (2, 4, 6, 8, 10, 12, 14, 16, 20, 24):
        yield "".join(f"{i * 16:08x}  {'00 ' * 16} |{'.' * 16}|\n" for i in range(rows))


def _poems_with_refrains() -> Iterator[str]:
    refrain = (
        "Row, row, row your boat,\ngently down the stream.\nMerrily, merrily, merrily, merrily,\n"
    )
    for verses in (3, 4, 5, 6, 7, 8, 9, 10, 12, 16):
        yield "\n".join(f"The {word} is far away,\n{refrain}" for word in (_WORDS * 2)[:verses])


def _songs_of_one_word() -> Iterator[str]:
    for line in ("na na na na, ", "la la la, "):
        for count in (4, 8, 12, 16, 20):
            yield "Everybody:\n" + line * count + "hey!\n"


def _lines_written_out() -> Iterator[str]:
    for count in (5, 10, 15, 20, 23):
        yield "I will not talk in class.\n" * count  # a short line, stopped at its 24th repeat
    for count in _COUNTS:
        yield "All work and no play makes Jack a dull boy.\n" * count


def _empty_forms() -> Iterator[str]:
    for count in (5, 10, 20, 25, 30):
        yield "Please fill in:\n" + "- [ ] Task\n" * count
    for count in _COUNTS:
        yield "Please fill in:\n" + "- [ ] Task: ________ Date: ________\n" * count


def _unrolled_code() -> Iterator[str]:
    for count in (5, 10, 20, 30, 40):
        yield "def run(step):\n" + "    step.forward()\n" * count + "    return step\n"
    for count in _COUNTS:
        yield (
            "def run(p, s):\n" + "    p = p.step(s, dt=0.1, out=None)\n" * count + "    return p\n"
        )


def _lists_of_literals() -> Iterator[str]:
    for literal in ("null", "None", "true", "False", "NaN"):
        yield "[" + ", ".join([literal] * 100) + "]"
        yield "[" + ",".join([literal] * 500) + "]"


def _hex_arrays() -> Iterator[str]:
    for count in (34, 64, 100, 200, 300):
        yield "uint8_t data[] = {" + ", ".join(["0xFF"] * count) + "};"
        yield "static const table = {\n" + "    0xDE, 0xAD, 0xBE, 0xEF,\n" * count + "};"


def _markup() -> Iterator[str]:
    for rows in _COUNTS:
        yield "<table>\n" + "<tr><td></td><td></td></tr>\n" * rows + "</table>"
        yield "<ul>\n" + '  <li class="item">&nbsp;</li>\n' * rows + "</ul>"


def _test_code() -> Iterator[str]:
    for count in (4, 6, 8, 10, 12, 14, 16, 18, 19, 20):
        yield "\n".join(
            f"def test_{w}():\n    assert parse('{w}') == {{'name': '{w}', 'ok': True}}\n"
            for w in _WORDS[:count]
        )


def _numbered_lists() -> Iterator[str]:
    for count in (10, 20, 30, 40, 50, 60, 70, 80, 90, 100):
        yield "\n".join(f"{i}. Item number {i}" for i in range(1, count + 1))


_KINDS = {
    "table of equal rows": _tables_of_equal_rows,
    "wide table": _wide_tables,
    "table of counted rows": _tables_of_counted_rows,
    "list of zeros": _lists_of_zeros,
    "zero matrix": _zero_matrices,
    "equal JSON rows": _equal_json_rows,
    "indented JSON": _indented_json,
    "rule of one character": _rules_of_one_character,
    "box drawing": _box_drawings,
    "ASCII art": _ascii_art,
    "chess board": _chess_boards,
    "base64 of zeros": _base64_of_zeros,
    "hex dump": _hex_dumps,
    "poem with a refrain": _poems_with_refrains,
    "song of one word": _songs_of_one_word,
    "lines written out": _lines_written_out,
    "empty form": _empty_forms,
    "unrolled code": _unrolled_code,
    "list of literals": _lists_of_literals,
    "hex array": _hex_arrays,
    "markup": _markup,
    "test code": _test_code,
    "numbered list": _numbered_lists,
}
