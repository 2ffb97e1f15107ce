"""`mistral-serve keys`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serving.cli.commands import app
from serving.tenants import Tenant, key_file
from serving.tenants.api_key import callers, digest


def run(file: Path, *arguments: str) -> Result:
    environment = {"MISTRAL_SERVE_KEYS_FILE": str(file)}
    return CliRunner().invoke(app, ["keys", *arguments], env=environment, catch_exceptions=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def is_in(file: Path, key: str) -> bool:
    known, _ = callers(key_file.read(file), {"search": Tenant(name="search")})
    return digest(key.encode()) in known


def test_a_key_is_printed_once_and_works_by_its_hash(file: Path) -> None:
    made = run(file, "create", "--tenant", "search", "--expires", "90d", "--max-priority", "3",
               "--models", "small, large", "--endpoints", "/v1/models")  # fmt: skip
    assert made.exit_code == 0
    key = made.stdout.rstrip("\n")
    (kept,) = key_file.read(file)
    assert is_in(file, key)
    assert key not in file.read_text() + made.stderr
    assert (kept.models, kept.endpoints) == (("small", "large"), ("/v1/models",))
    assert (kept.tenant, kept.max_priority) == ("search", 3)
    assert kept.expires == kept.created + timedelta(days=90)
    assert datetime.now(UTC) - kept.created < timedelta(minutes=5)
    listed = run(file, "list")
    for text in (kept.id, "search", "small,large", "/v1/models", f"{kept.expires:%Y-%m-%d}"):
        assert text in listed.stdout
    assert key not in listed.output and kept.sha256 not in listed.output


def test_a_key_may_have_no_limits_and_is_of_the_only_tenant(file: Path) -> None:
    assert run(file, "create").exit_code == 0
    (kept,) = key_file.read(file)
    assert (kept.tenant, kept.expires, kept.models) == ("default", None, None)
    row = run(file, "list").stdout.splitlines()[1]
    assert "never" in row and "all" in row


def test_a_revoked_key_is_gone_and_the_others_stay(file: Path) -> None:
    keys = [run(file, "create", "--tenant", "search").stdout.strip() for _ in range(2)]
    first, second = key_file.read(file)
    assert run(file, "revoke", first.id).exit_code == 0
    assert key_file.read(file) == (second,)
    assert [is_in(file, key) for key in keys] == [False, True]


def test_a_rotated_key_works_until_its_grace_period_ends(file: Path) -> None:
    old_key = run(file, "create", "--tenant", "search", "--models", "small").stdout.strip()
    (before,) = key_file.read(file)
    rotated = run(file, "rotate", before.id, "--grace", "2h")
    assert rotated.exit_code == 0
    old, new = key_file.read(file)
    assert is_in(file, old_key) and is_in(file, rotated.stdout.strip())
    assert (old.id, old.sha256) == (before.id, before.sha256)
    assert old.expires == new.created + timedelta(hours=2)
    assert (new.tenant, new.models, new.expires) == ("search", ("small",), None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--tenant", "Not A Name"), "--tenant must be a tenant's name: up to 63 lower-case"),
        (("--endpoints", "v1/models"), "--endpoints must be a list of paths, as /v1/models"),
        (("--models", ""), "--models must be a list of names, as a,b"),
        (("--expires", "soon"), "no duration such as 30m, 12h or 90d"),
        (("--max-priority", "10"), "max-priority"),
    ],
)
def test_a_key_that_cannot_be_is_not_made(file: Path, options: tuple[str, str], says: str) -> None:
    result = run(file, "create", *options)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.replace("│", " ").split())
    assert not file.exists()


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_an_unknown_id_is_told(file: Path, command: str) -> None:
    run(file, "create")
    before = file.read_text()
    result = run(file, command, "00000000")
    assert result.exit_code == 2
    assert "has no key 00000000; `mistral-serve keys list` shows them" in result.stderr
    assert file.read_text() == before


@pytest.mark.parametrize("command", [("list",), ("create",), ("revoke", "00000000")])
def test_a_file_that_is_none_of_keys_is_told_and_stays(
    file: Path, command: tuple[str, ...]
) -> None:
    file.write_text("keys: []")
    result = run(file, *command)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"mistral-serve: {file}: is no keys file")
    assert file.read_text() == "keys: []"
