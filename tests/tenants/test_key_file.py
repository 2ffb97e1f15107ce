"""The file of API keys: what it must be, and how it is changed."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serving.tenants.api_key import ApiKey
from serving.tenants.key_file import KeyFileError, change, parse, read
from tests.support.keys import key_record

KEY = key_record("sk-1", "a")
FIELDS: dict[str, Any] = json.loads(msgspec.json.encode(KEY))


def document(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def add(path: Path, key: str) -> None:
    change(path, lambda keys: (*keys, key_record(key, "a")))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    full = key_record(
        *("sk-2", "b"), models=("small",), endpoints=("/v1/chat/completions",), max_priority=3
    )
    assert change(path, lambda keys: (*keys, KEY, full)) == (KEY, full) == read(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    change(path, lambda keys: keys[:1])
    assert read(path) == (KEY,)
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_no_part_of_a_file_is_taken_for_the_whole() -> None:
    whole = document(FIELDS, FIELDS | {"id": "00000000", "sha256": "0" * 64})
    assert len(parse(whole)) == 2
    for length in range(len(whole)):
        with pytest.raises(KeyFileError):
            parse(whole[:length])


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "short"},
        {"sha256": "abc"},
        {"sha256": "sk-not-a-hash"},
        {"tenant": "Not A Name"},
        {"created": "2026-01-01T00:00:00"},  # in no time zone
        {"models": []},
        {"endpoints": ["v1/models"]},
        {"endpoints": ["/v1/models/"]},
        {"max_priority": 10},
        {"max_prioritie": 1},  # a limit that is ignored would be none
    ],
)
def test_a_wrong_field_is_named_and_its_value_is_not(wrong: dict[str, Any]) -> None:
    with pytest.raises(KeyFileError, match="keys") as error:
        parse(document(FIELDS | wrong))
    assert next(iter(wrong)) in str(error.value)
    assert "sk-not-a-hash" not in str(error.value)


@pytest.mark.parametrize("same", ["id", "sha256"])
def test_two_keys_are_different(same: str) -> None:
    other = {"id": "00000000", "sha256": "0" * 64, same: FIELDS[same]}
    with pytest.raises(KeyFileError, match=f"two keys with one {same}"):
        parse(document(FIELDS, FIELDS | other))


def test_a_change_that_fails_leaves_the_file_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.json"
    add(path, "sk-1")
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="two keys"):
        add(path, "sk-1")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("serving.tenants.key_file.os.fsync", full)
    with pytest.raises(KeyFileError, match="cannot be written: No space left"):
        add(path, "sk-2")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_broken_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("{")
    with pytest.raises(KeyFileError, match="no keys file"):
        add(path, "sk-1")
    assert path.read_text() == "{"


def test_a_link_to_the_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_bytes(document())
    (tmp_path / "link.json").symlink_to("real.json")
    add(tmp_path / "link.json", "sk-1")
    assert (tmp_path / "link.json").is_symlink()
    assert len(read(tmp_path / "real.json")) == 1


def test_changes_at_the_same_time_are_all_made(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=add, args=(path, f"sk-{i}")) for i in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(read(path)) == 8


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="has no folder"):
        add(tmp_path / "none" / "keys.json", "sk-1")
    with pytest.raises(KeyFileError, match="cannot be read: No such file"):
        read(tmp_path / "keys.json")


def test_what_is_kept_has_no_place_for_a_key() -> None:
    assert set(ApiKey.__struct_fields__) == {
        *("id", "tenant", "sha256", "created", "expires"),
        *("models", "endpoints", "max_priority"),
    }
