import errno
import os
from pathlib import Path

import pytest

from serving.batch import lines
from serving.batch.results import Results, ResultsError, failures_path

KNOWN = {"a", "b", "c"}
A, B, C = (lines.answered(name, 200, "req", b'{"text": "x"}') for name in "abc")
REFUSED = lines.answered("b", 400, "req", b'{"error": {}}')
EXHAUSTED = lines.failed("c", "tries_exhausted", "503")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def write(out: Path, *answers: lines.Answer) -> None:
    with Results(out, KNOWN) as results:
        for answer in answers:
            results.append(answer)


def ids(path: Path) -> list[str]:
    return [lines.parse_answer(line).custom_id for line in path.read_bytes().splitlines()]


def test_a_next_run_finds_what_is_done_and_appends(out: Path) -> None:
    write(out, A)
    with Results(out, KNOWN) as results:
        assert (results.answered, results.failed) == ({"a"}, set())
        results.append(C)
    assert ids(out) == ["a", "c"]


def test_a_line_is_in_the_file_as_soon_as_it_is_appended(out: Path) -> None:
    with Results(out, KNOWN) as results:
        results.append(A)
        assert ids(out) == ["a"]


@pytest.mark.parametrize("answer", [B, REFUSED])
def test_a_disk_that_fills_up_leaves_whole_lines_and_takes_no_more(
    out: Path, answer: lines.Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = [10, 0]

    def write_until_full(fd: int, data: memoryview) -> int:
        if not (left := room.pop(0)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(fd, data[:left])

    real_write = os.write
    with Results(out, KNOWN) as results:
        results.append(A)
        results.append(EXHAUSTED)
        monkeypatch.setattr(os, "write", write_until_full)
        with pytest.raises(OSError, match="No space left"):
            results.append(answer)
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space left"):
            results.append(C)
    assert out.read_bytes() == A.encode()
    assert failures_path(out).read_bytes() == EXHAUSTED.encode()


def test_failures_go_to_a_file_of_their_own_which_is_there_only_if_needed(out: Path) -> None:
    write(out, A)
    assert not failures_path(out).exists()
    write(out, REFUSED, EXHAUSTED)
    assert ids(out) == ["a"]
    assert ids(failures_path(out)) == ["b", "c"]


@pytest.mark.parametrize(
    ("out", "failures"),
    [("d/out.jsonl", "d/out.errors.jsonl"), ("a.b.txt", "a.b.errors.txt"), ("out", "out.errors")],
)
def test_the_name_of_the_failures_file(out: str, failures: str) -> None:
    assert failures_path(Path(out)) == Path(failures)


def test_refusals_stay_and_lines_that_ran_out_of_tries_are_asked_again(out: Path) -> None:
    write(out, A, REFUSED, EXHAUSTED)
    with Results(out, KNOWN) as results:
        assert (results.answered, results.failed) == ({"a"}, {"b"})
        results.append(C)
    assert ids(out) == ["a", "c"]
    assert ids(failures_path(out)) == ["b"]
    assert {path.name for path in out.parent.iterdir()} == {"out.jsonl", "out.errors.jsonl"}


def test_a_failures_file_without_failures_goes_away(out: Path) -> None:
    write(out, EXHAUSTED)
    write(out, C)
    assert [path.name for path in out.parent.iterdir()] == ["out.jsonl"]


@pytest.mark.parametrize("cut", range(1, len(B.encode())))
def test_a_last_line_cut_anywhere_is_removed(out: Path, cut: int) -> None:
    whole = A.encode()
    out.write_bytes(whole + B.encode()[:-cut])
    with Results(out, KNOWN) as results:
        assert results.answered == {"a"}
        assert out.read_bytes() == whole
        results.append(B)
    assert ids(out) == ["a", "b"]


def test_a_cut_failure_is_removed_too(out: Path) -> None:
    failures_path(out).write_bytes(REFUSED.encode() + EXHAUSTED.encode()[:-9])
    with Results(out, KNOWN) as results:
        assert results.failed == {"b"}
    assert failures_path(out).read_bytes() == REFUSED.encode()


def test_zeros_that_a_crash_of_the_machine_left_are_removed(out: Path) -> None:
    out.write_bytes(A.encode() + bytes(1000))
    write(out, B)
    assert ids(out) == ["a", "b"]


@pytest.mark.parametrize(
    "content", [b"some text", b"some text\n", b'{"custom_id": "a"}', b'{"a": 1}\n']
)
def test_a_file_of_another_kind_is_refused_and_not_touched(out: Path, content: bytes) -> None:
    out.write_bytes(content)
    with pytest.raises(ResultsError, match=r"out.jsonl:1: not a line of a batch's output"):
        Results(out, KNOWN)
    assert out.read_bytes() == content


def test_another_inputs_output_is_refused_and_not_touched(out: Path) -> None:
    write(out, A, B)
    content = out.read_bytes()
    with pytest.raises(ResultsError, match=r"out.jsonl:2: the input has no custom_id 'b'"):
        Results(out, {"a"})
    assert out.read_bytes() == content


def test_two_runs_cannot_write_to_one_file(out: Path) -> None:
    with Results(out, KNOWN), pytest.raises(ResultsError, match="another run is writing to it"):
        Results(out, KNOWN)
    write(out, A)
    assert ids(out) == ["a"]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"nowhere/out.jsonl: No such file or directory"):
        Results(tmp_path / "nowhere/out.jsonl", KNOWN)
