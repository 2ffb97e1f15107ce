import gzip
from pathlib import Path

import pytest

from serving.simulator.trace import TraceError, read_trace

MOONCAKE = (
    '{"timestamp": 1000, "input_length": 1300, "output_length": 500, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 28482, "input_length": 512, "output_length": 1, "hash_ids": [0]}\n'
)
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 23:59:59.5805900,374,44\n"
    "2023-11-17 00:00:03.9951690,700,0\n"
)


def written(tmp_path: Path, text: str, zipped: bool = False) -> Path:
    path = tmp_path / "trace"
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_a_line_of_mooncake_is_a_request_of_blocks_of_512_tokens(
    tmp_path: Path, zipped: bool
) -> None:
    path = written(tmp_path, MOONCAKE, zipped)
    first, second = read_trace(path)
    assert [first.at_s, second.at_s] == pytest.approx([0.0, 27.482])
    assert first.request.prefix.hashes == [0, 1, 2]
    assert first.request.prefix.ends_tokens == [512, 1024, 1300]
    assert first.request.prompt_tokens == 1300
    assert (first.request.output_tokens, second.request.output_tokens) == (500, 1)
    assert len(read_trace(path, limit=1)) == 1


@pytest.mark.parametrize("zipped", [False, True])
def test_a_row_of_azure_is_a_request_that_shares_nothing(tmp_path: Path, zipped: bool) -> None:
    first, second = read_trace(written(tmp_path, AZURE, zipped))
    assert [first.at_s, second.at_s] == pytest.approx([0.0, 4.414579])
    assert (first.request.prompt_tokens, second.request.prompt_tokens) == (374, 700)
    assert (first.request.output_tokens, second.request.output_tokens) == (44, 1)
    assert not set(first.request.prefix.hashes) & set(second.request.prefix.hashes)


def test_requests_are_in_the_order_of_time(tmp_path: Path) -> None:
    lines = MOONCAKE.splitlines(keepends=True)
    arrivals = read_trace(written(tmp_path, lines[1] + lines[0]))
    assert [arrival.request.prompt_tokens for arrival in arrivals] == [1300, 512]
    assert arrivals[0].at_s == 0.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no trace that is known"),
        ("id,tokens\n1,2\n", "'id,tokens'"),
        ('{"messages": []}\n', "timestamp, input_length, output_length, hash_ids"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "without requests"),
        (AZURE + "yesterday,1,2\n", "line 4: Invalid isoformat string: 'yesterday'"),
        (AZURE + "2023-11-17 00:00:03,1\n", "line 4"),
        (MOONCAKE + '{"timestamp": 5}\n', "line 3: 'hash_ids' is missing"),
        (MOONCAKE + "{\n", "line 3"),
    ],
)
def test_what_is_no_trace_is_said_with_the_line(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TraceError) as raised:
        read_trace(path)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)


def test_what_is_no_text_is_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    for data in (b"\xff\xfe\x00\x01", gzip.compress(AZURE.encode())[:40]):
        path.write_bytes(data)
        with pytest.raises(TraceError, match="cannot be read as text"):
            read_trace(path)
