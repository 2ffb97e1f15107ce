"""Hypothesis strategies for requests to what an OpenAPI document describes.

They are as described, nearly so, or nothing like it: other types, sizes and methods, lone
surrogates, NaN, deep nesting, bytes that are no JSON.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from tests.mistral.conversations import BODIES, CONVERSATIONS, JSON

Strategy = st.SearchStrategy[Any]

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND")
_BOUNDARY = b"a-boundary"
TEXT = st.text(st.characters(), max_size=20)
"""Texts with lone surrogates among them."""
_NUMBERS = st.sampled_from(("0", "-0", "1e999", "-1e-999", "9" * 400, "1" + "0" * 5000, "0.1e1"))
_ANY = st.one_of(JSON, TEXT, _NUMBERS.map(lambda text: _Verbatim(text)))
_HEADER_VALUES = st.one_of(
    st.sampled_from((b"", b"0", b"-1", b"1e9", b"NaN", b"gzip", b"application/json", b"a" * 5000)),
    st.binary(max_size=20).map(lambda value: bytes(set(value) - set(b"\r\n\0"))),
)
_HEADER_NAMES = st.sampled_from(
    b"content-type content-encoding accept authorization x-api-key x-priority x-request-timeout "
    b"x-request-id x-session-id traceparent origin expect range if-none-match upgrade".split()
)


@dataclass(frozen=True)
class DescribedRequest:
    method: str
    path: str
    """The path as described, with the names of its parameters."""
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def raw(self) -> bytes:
        head = f"{self.method} {self.target} HTTP/1.1\r\nhost: a\r\n".encode()
        fields = b"".join(b"%b: %b\r\n" % field for field in self.headers)
        return head + fields + b"content-length: %d\r\n\r\n%b" % (len(self.body), self.body)

    def damaged(self, rng: random.Random) -> "DescribedRequest":
        """Returns the request with some bytes of its body, or else of its target, changed."""
        some = rng.choice((rng.randbytes(1), rng.randbytes(4), b'"', b"}", b"[", b"null", b"1e400"))
        if not self.body:
            return replace(self, target=self.target + quote(some))
        begin = rng.randrange(len(self.body))
        end = begin + rng.choice((0, 0, 1, 8, len(self.body)))
        return replace(self, body=self.body[:begin] + some + self.body[end:])


class _Verbatim(float):
    """A number as it is written in JSON, also where no float is as large."""

    def __new__(cls, text: str) -> "_Verbatim":
        return super().__new__(cls, float(text))

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def requests(document: dict[str, Any], known: Mapping[str, list[str]]) -> Strategy:
    """Returns a strategy for requests to all operations of the document. `known` has the values of
    parameters and properties, by name, that lead to something that is there."""
    return st.one_of(
        [
            _requests(path, method, operation, known)
            for path, operations in sorted(document["paths"].items())
            for method, operation in operations.items()
        ]
    )


def _requests(
    path: str, method: str, operation: dict[str, Any], known: Mapping[str, list[str]]
) -> Strategy:
    parameters = {
        (parameter["in"], parameter["name"]): _value(parameter["name"], parameter["schema"], known)
        for parameter in operation.get("parameters", ())
    }
    places = {place: st.one_of(value, value, TEXT) for place, value in parameters.items()}
    in_path = {place: value for place, value in places.items() if place[0] == "path"}
    in_query = {place: value for place, value in places.items() if place[0] == "query"}
    content = operation.get("requestBody", {}).get("content", {})
    bodies = [_bodies(kind, form["schema"], known) for kind, form in content.items()]

    def build(
        method: str,
        values: dict[tuple[str, str], Any],
        headers: list[tuple[bytes, bytes]],
        body: tuple[bytes, bytes],
    ) -> DescribedRequest:
        target, query = path, []
        for (place, name), value in values.items():
            text = quote(str(value).encode("utf-8", "surrogatepass"), safe="")
            if place == "path":
                target = target.replace(f"{{{name}}}", text)
            else:
                query.append(f"{name}={text}")
        target += "?" + "&".join(query) if query else ""
        kind, content = body
        kinds = ((b"content-type", kind),) if kind else ()
        return DescribedRequest(method, path, target, (*kinds, *headers), content)

    return st.builds(
        build,
        st.one_of(*[st.just(method.upper())] * 7, st.sampled_from(_METHODS)),
        st.fixed_dictionaries(in_path, optional=in_query),
        st.one_of(st.just([]), st.lists(st.tuples(_HEADER_NAMES, _HEADER_VALUES), max_size=3)),
        st.one_of(bodies or [st.just((b"", b"")), st.tuples(st.just(b""), st.binary(max_size=40))]),
    )


def _bodies(kind: str, schema: dict[str, Any], known: Mapping[str, list[str]]) -> Strategy:
    """Returns a strategy for bodies with their content types."""
    described = _value("", schema, known)
    wrong = st.dictionaries(st.sampled_from([*schema["properties"], "x"]), _ANY, max_size=2)
    if kind == "multipart/form-data":
        forms = st.builds(_form, st.one_of(described, st.builds(_merged, described, wrong)))
        broken = st.builds(lambda form, at: form[: at % (len(form) + 1)], forms, st.integers(0))
        content_type = b"multipart/form-data; boundary=" + _BOUNDARY
        return st.tuples(st.just(content_type), st.one_of(forms, broken, st.binary(max_size=80)))
    objects = st.one_of(
        described,
        st.builds(_merged, described, wrong),
        st.builds(_merged, described, CONVERSATIONS),
        st.builds(_merged, described, BODIES),
    )
    texts = st.one_of(
        *[st.builds(_encoded, objects, st.booleans())] * 6,
        st.builds(_encoded, _ANY, st.booleans()),
        st.binary(max_size=60),
        st.builds(_nested, st.sampled_from([*schema["properties"]]), st.integers(1, 20_000)),
        st.builds(lambda value, form: json.dumps(value).encode(form), objects, _ENCODINGS),
    )
    return st.tuples(st.just(kind.encode()), texts)


_ENCODINGS = st.sampled_from(("utf-16", "utf-8-sig", "utf-32-le"))


def _value(name: str, schema: dict[str, Any], known: Mapping[str, list[str]]) -> Strategy:
    """Returns a strategy for values of a JSON schema, as far as this service's schemas go."""
    if name in known:
        there = st.sampled_from(known[name])
        return st.one_of(there, there, there, TEXT)
    if "anyOf" in schema:
        return st.one_of([_value("", one, known) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    types = schema.get("type", [])
    if isinstance(types, list):
        if not types:
            return _ANY
        return st.one_of([_value("", {**schema, "type": one}, known) for one in types])
    least, most = schema.get("minimum"), schema.get("maximum")
    match types:
        case "object":
            properties = {
                key: _value(key, value, known)
                for key, value in schema.get("properties", {}).items()
            }
            required = {key: properties.pop(key, TEXT) for key in schema.get("required", ())}
            described = st.fixed_dictionaries(required, optional=properties)
            if "properties" in schema:
                return described
            others = _value("", schema.get("additionalProperties", {}), known)
            return st.builds(_merged, st.dictionaries(TEXT, others, max_size=2), described)
        case "array":
            items = _value("", schema.get("items", {}), known)
            return st.lists(items, min_size=schema.get("minItems", 0), max_size=3)
        case "integer":
            return st.integers(least, most)
        case "number":
            return st.floats(least, most)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case _:
            return TEXT


def _merged(one: Any, other: Any) -> dict[str, Any]:
    return {**one, **other}


def _encoded(value: Any, ascii_only: bool) -> bytes:
    return json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


def _nested(field: str, depth: int) -> bytes:
    return b'{"%b": %b%b}' % (field.encode(), b"[" * depth, b"]" * depth)


def _form(fields: dict[str, Any]) -> bytes:
    parts = [
        b'--%b\r\ncontent-disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
        % (
            _BOUNDARY,
            name.encode(),
            b'; filename="a.jsonl"' if name == "file" else b"",
            str(value).encode("utf-8", "surrogatepass"),
        )
        for name, value in fields.items()
    ]
    return b"".join(parts) + b"--%b--\r\n" % _BOUNDARY
