import gzip
from pathlib import Path

from serving.simulator.mooncake import read_trace

LINES = (
    '{"timestamp": 0, "input_length": 1300, "output_length": 500, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 27482, "input_length": 512, "output_length": 1, "hash_ids": [0]}\n'
)


def test_a_line_is_a_request_of_blocks_of_512_tokens(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl.gz"
    with gzip.open(path, "wt") as trace:
        trace.write(LINES)
    first, second = read_trace(path)
    assert (first.at_s, second.at_s) == (0.0, 27.482)
    assert first.request.prefix.hashes == [0, 1, 2]
    assert first.request.prefix.ends_tokens == [512, 1024, 1300]
    assert first.request.prompt_tokens == 1300
    assert (first.request.output_tokens, second.request.output_tokens) == (500, 1)
    assert len(read_trace(path, limit=1)) == 1
