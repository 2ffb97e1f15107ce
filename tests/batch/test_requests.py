import io

import pytest

from serving.batch import requests
from serving.batch.requests import InputError
from tests.support.scripted_service import request_line


def test_an_index_finds_each_request_again() -> None:
    file = io.BytesIO(b"\n" + request_line("a") + b" \r\n" + request_line("ü") + request_line("c"))
    offsets = requests.index(file, "in.jsonl")
    assert list(offsets) == ["a", "ü", "c"]
    for custom_id in ("c", "a", "ü"):
        assert requests.read_at(file, offsets[custom_id], custom_id).custom_id == custom_id


@pytest.mark.parametrize("now", [b"", b"{}\n", request_line("c")])
def test_a_file_that_changes_meanwhile_is_told(now: bytes) -> None:
    file = io.BytesIO(request_line("a") + request_line("b"))
    offsets = requests.index(file, "in.jsonl")
    file.truncate(offsets["b"])
    file.seek(offsets["b"])
    file.write(now)
    with pytest.raises(InputError, match="the input was changed"):
        requests.read_at(file, offsets["b"], "b")


def test_the_last_line_needs_no_end() -> None:
    assert list(requests.index(io.BytesIO(request_line("a").rstrip()), "in.jsonl")) == ["a"]


def test_every_mistake_is_told_with_its_file_and_line() -> None:
    file = io.BytesIO(
        request_line("a")
        + b"\n"
        + request_line("b", method="GET")
        + request_line("a")
        + request_line("d")[:40]
    )
    with pytest.raises(InputError) as error:
        requests.index(file, "some/in.jsonl")
    assert str(error.value).splitlines() == [
        "some/in.jsonl:3: `method` must be POST, not 'GET'",
        "some/in.jsonl:4: `custom_id` 'a' stands on two lines",
        "some/in.jsonl:5: Input data was truncated",
    ]


def test_a_file_full_of_mistakes_is_not_read_to_its_end() -> None:
    file = io.BytesIO(b"no\n" * 1000)
    with pytest.raises(InputError) as error:
        requests.index(file, "in.jsonl")
    assert len(str(error.value).splitlines()) == 11
    assert file.tell() == 30


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_file_without_requests_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"^in.jsonl: no requests in it$"):
        requests.index(io.BytesIO(content), "in.jsonl")


def test_no_line_is_read_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_LINE_BYTES", 200)
    file = io.BytesIO(request_line("a") + request_line("b", padding="x" * 1000))
    assert max(len(line) for _, _, line in requests.read_lines(file)) == 200
    file.seek(0)
    with pytest.raises(InputError, match=r"^in.jsonl:2: "):
        requests.index(file, "in.jsonl")
