"""The script that makes the Secrets, with a kubectl that notes what it is asked and given."""

import subprocess
from pathlib import Path

from serving.deploy.lint.references import SECRETS
from serving.tenants import key_file

SCRIPT = Path(__file__).parents[2] / "deploy/secrets.sh"

KUBECTL = """#!/bin/sh
echo "$*" >>"$DIR/calls"
case "$*" in
    *" get secret "*) [ -e "$DIR/secrets/$5" ] ;;
    *" create secret generic "*) cat >"$DIR/secrets/$6" ;;
esac
"""


def make(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    (folder / "secrets").mkdir(exist_ok=True)
    (folder / "kubectl").write_text(KUBECTL)
    (folder / "kubectl").chmod(0o755)
    path = {"PATH": f"{folder}:/usr/bin:/bin", "DIR": str(folder)}
    result = subprocess.run([SCRIPT], env=path | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result


def test_it_makes_what_the_manifests_name_and_shows_no_value(tmp_path: Path) -> None:
    result = make(tmp_path, HF_TOKEN="hf_secret")
    calls = (tmp_path / "calls").read_text()
    for name, key in SECRETS.items():
        value = (tmp_path / "secrets" / name).read_text()
        assert f"create secret generic {name} --from-file={key}=/dev/stdin" in calls
        assert value and value not in calls + result.stdout + result.stderr
    assert (tmp_path / "secrets/hf-token").read_text() == "hf_secret"
    random = [
        (tmp_path / "secrets" / name).read_text()
        for name in ("redis-password", "ray-auth-token", "admin-key")
    ]
    assert [len(value) for value in random] == [64] * 3 and len(set(random)) == 3
    assert key_file.read(tmp_path / "secrets/api-keys") == ()


def test_what_is_there_stays(tmp_path: Path) -> None:
    make(tmp_path)
    before = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert before.keys() == SECRETS.keys() - {"hf-token"}
    result = make(tmp_path, HF_TOKEN="hf_secret")
    after = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert after == before | {"hf-token": "hf_secret"}
    assert "secret/redis-password is there" in result.stderr
