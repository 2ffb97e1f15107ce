"""A parser of PromQL that finds the series that a query selects."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|\#[^\n]*)
  | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<number>\d[\w.]*)
  | (?P<name>[a-zA-Z_:][\w:]*)
  | (?P<range>\[[^\]]*\])
  | (?P<mark>[(){},]|=~|!~|!=|>=|<=|==|[-+*/%^<>=@.])
    """,
    re.X,
)
_BEFORE_LABELS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"and", "or", "unless", "bool", "offset"}

GRAFANA = {
    "__rate_interval": "5m",
    "__range_s": "3600",
    "__range": "1h",
    "namespace": ".*",
    "model": ".*",
    "replica": ".*",
    "tenant": ".*",
    "usd_per_gpu_hour": "2.5",
}


@dataclass(frozen=True, slots=True)
class Selector:
    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    """Label, operator and value."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(_holds(labels.get(name, ""), *rest) for name, *rest in self.matchers)


def _holds(value: str, operator: str, wanted: str) -> bool:
    found = re.fullmatch(wanted, value) is not None if "~" in operator else value == wanted
    return found is not operator.startswith("!")


def with_values(query: str, values: Mapping[str, str] = GRAFANA) -> str:
    """Replaces Grafana's variables. Raises KeyError for a variable without a value."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values[match[1]], query)


def selectors(query: str) -> Iterator[Selector]:
    """The selectors in a query. Raises ValueError for a character that is not PromQL."""
    tokens = _tokens(query)
    index = 0
    while index < len(tokens):
        kind, text = tokens[index]
        index += 1
        following = tokens[index][1] if index < len(tokens) else ""
        if kind != "name" or text in _WORDS:
            continue
        if text in _BEFORE_LABELS:
            if following == "(":
                index = _end(tokens, index, ")")
        elif following == "{":
            end = _end(tokens, index, "}")
            yield Selector(text, tuple(_matchers(tokens[index + 1 : end - 1])))
            index = end
        elif following != "(" and following not in _BEFORE_LABELS:
            yield Selector(text, ())


def _tokens(query: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    while at < len(query):
        match = _TOKEN.match(query, at)
        if match is None:
            raise ValueError(f"not PromQL at {query[at : at + 20]!r}")
        at = match.end()
        if match.lastgroup is not None and match.lastgroup != "space":
            tokens.append((match.lastgroup, match[0]))
    return tokens


def _end(tokens: list[tuple[str, str]], begin: int, closing: str) -> int:
    """The index after the closing mark. Labels and matchers are not nested."""
    return next(i for i in range(begin, len(tokens)) if tokens[i][1] == closing) + 1


def _matchers(tokens: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    texts = [text for _, text in tokens if text != ","]
    for name, operator, value in zip(texts[::3], texts[1::3], texts[2::3], strict=True):
        yield name, operator, value[1:-1].replace("\\\\", "\\")
