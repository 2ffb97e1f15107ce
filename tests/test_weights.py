"""Weights, downloaded from a stand-in hub by its real client through the command that a Job
runs."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from serving import weights
from serving.config import AppConfig
from serving.copied_weights import damaged
from serving.weights import Repository, WeightsError, repositories
from tests.support.hub import Hub
from tests.support.waiting import eventually

REPOSITORY = "mistralai/Mistral-Small-24B-Instruct-2501"
WEIGHTS = os.urandom(300_000)
CHUNK = 10 * 1024 * 1024
"""The size of the hub client's writes."""
FILES = {
    "consolidated.safetensors": WEIGHTS,
    "model-00001-of-00002.safetensors": b"the same in another format",
    "params.json": b"{}",
    "tekken.json": b'{"version": "v7"}',
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        hub.repositories[REPOSITORY] = dict(FILES)
        yield hub


class Job:
    """The command and its environment."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self.home = folder / "huggingface"
        self.config = folder / "serve.yaml"
        self.configure(revision=hub.commit)

    def configure(self, **model: object) -> None:
        args = {"models": [{"model": "mistral-small-24b-instruct-2501"} | model]}
        document = {"applications": [{"name": "mistral", "args": args}]}
        self.config.write_text(yaml.safe_dump(document))

    def start(self, *flags: str, offline: bool = False) -> "subprocess.Popen[str]":
        environment = os.environ | {
            "HF_HOME": str(self.home),
            "HF_ENDPOINT": self.hub.url,
            "HF_HUB_OFFLINE": str(int(offline)),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_TOKEN": "hf_secret",
        }
        command: list[str | Path] = [
            Path(sys.executable).with_name("mistral-serve"),
            "weights",
            *flags,
            self.config,
        ]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    def run(self, *, offline: bool = False) -> tuple[int, str]:
        process = self.start(offline=offline)
        _, log = process.communicate()
        return process.returncode, log

    @property
    def snapshot(self) -> Path:
        repository = "models--" + REPOSITORY.replace("/", "--")
        return self.home / "hub" / repository / "snapshots" / self.hub.commit


@pytest.fixture
def job(hub: Hub, tmp_path: Path) -> Job:
    return Job(hub, tmp_path)


def test_what_the_engine_reads_is_fetched_once_and_checked(hub: Hub, job: Job) -> None:
    code, log = job.run()
    assert code == 0, log
    assert sorted(path.name for path in job.snapshot.iterdir()) == [
        "consolidated.safetensors",
        "params.json",
        "tekken.json",
    ]
    assert (job.snapshot / "consolidated.safetensors").read_bytes() == WEIGHTS
    assert "complete" in log and "all weights are present" in log
    assert "Bearer hf_secret" in hub.tokens and "hf_secret" not in log
    sent = dict(hub.sent)
    code, log = job.run()
    assert code == 0 and "already verified" in log
    assert hub.sent == sent


async def test_after_a_crash_it_goes_on_where_it_was(hub: Hub, job: Job) -> None:
    weights = os.urandom(25 * CHUNK // 10)
    hub.repositories[REPOSITORY]["consolidated.safetensors"] = weights
    hub.stall_after = 22 * CHUNK // 10
    killed = job.start()
    partial = job.snapshot.parents[1] / "blobs"
    await eventually(
        lambda: any(f.stat().st_size >= 2 * CHUNK for f in partial.glob("*.partial")), 60
    )
    killed.kill()
    killed.communicate()
    hub.stall_after = None
    code, log = job.run()
    assert code == 0, log
    assert (job.snapshot / "consolidated.safetensors").read_bytes() == weights
    assert hub.ranges == [f"consolidated.safetensors bytes={2 * CHUNK}-"]


def test_weights_that_are_not_what_the_catalogue_says_are_refused(hub: Hub, job: Job) -> None:
    hub.repositories[REPOSITORY] |= {
        "params.json": b'{"max_position_embeddings": 8192}',
        "tekken.json": b'{"config": {"version": "v11"}}',
    }
    code, log = job.run()
    assert code == 1 and "Traceback" not in log
    assert "context_tokens is 32768, and params.json allows 8192" in log
    assert "tokenizer is v7, and tekken.json is of version v11" in log
    hub.repositories.clear()
    code, offline = job.run(offline=True)
    assert code == 1 and "tekken.json is of version v11" in offline


def test_damaged_weights_are_noticed_and_fetched_again(hub: Hub, job: Job) -> None:
    blob = job.snapshot / "consolidated.safetensors"
    job.run()
    note = next((job.snapshot.parents[1] / "whole").iterdir())
    note.unlink()  # as if it crashed before the check
    blob.resolve().write_bytes(b"x" * len(WEIGHTS))
    code, log = job.run()
    assert code == 1 and "damaged" in log and "consolidated.safetensors" in log
    code, log = job.run()
    assert code == 0, log
    assert blob.read_bytes() == WEIGHTS


@pytest.mark.parametrize("damage", [None, "changed", "absent"])
def test_copied_weights_are_verified_without_network(
    hub: Hub, job: Job, tmp_path: Path, damage: str | None
) -> None:
    job.run()
    shutil.rmtree(job.snapshot.parents[1] / "whole")
    shutil.copytree(job.home, tmp_path / "copy", symlinks=True)
    job.home = tmp_path / "copy"
    blob = (job.snapshot / "consolidated.safetensors").resolve()
    if damage == "changed":
        blob.write_bytes(b"x" * len(WEIGHTS))
    elif damage == "absent":
        blob.unlink()
    sent = dict(hub.sent)
    code, log = job.run(offline=True)
    assert hub.sent == sent
    assert code == (damage is not None), log
    assert ("damaged" in log and "consolidated.safetensors" in log) is (damage is not None)
    if not damage:
        waiting = job.start("--wait", offline=True)
        assert "all weights are present" in waiting.communicate(timeout=60)[1]


def test_a_volume_of_another_user_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(weights, "_missing", lambda *_: [])
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(WeightsError, match=rf"^a/b at main: user {os.getuid()} .* cannot write /"):
        weights.fetch(Repository("a/b", None, ()), print)


def test_files_without_their_links_are_checked_by_their_headers(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    whole = len(header).to_bytes(8, "little") + header + b"1234"
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").write_bytes(whole)
    assert damaged(tmp_path, ()) == ["model-2.safetensors"]
    (tmp_path / "model-2.safetensors").write_bytes(whole[:-1])
    assert damaged(tmp_path, ()) == ["model-2.safetensors"]
    (tmp_path / "model-2.safetensors").write_bytes(whole)
    assert damaged(tmp_path, ()) == []
    assert damaged(tmp_path / "nothing", ()) == ["*.safetensors"]


def test_an_engine_waits_without_network_until_all_is_whole(hub: Hub, job: Job) -> None:
    waiting = job.start("--wait", offline=True)
    assert waiting.stderr is not None
    assert "waiting for mistralai/Mistral-Small-24B" in waiting.stderr.readline()
    assert job.run()[0] == 0
    _, log = waiting.communicate(timeout=60)
    assert waiting.returncode == 0 and "all weights are present" in log


@pytest.mark.parametrize("revision", [None, "main"])
def test_a_branch_is_fetched_as_the_commit_that_it_names(
    hub: Hub, job: Job, revision: str | None
) -> None:
    job.configure(revision=revision, weights=REPOSITORY)
    for message in ("complete", "already verified"):
        code, log = job.run()
        assert code == 0 and message in log, log
    assert (job.snapshot / "params.json").is_file()


def test_a_missing_file_is_not_whole(hub: Hub, job: Job) -> None:
    job.run()
    (job.snapshot / "params.json").resolve().unlink()
    waiting = job.start("--wait", offline=True)
    try:
        assert waiting.stderr is not None
        assert "waiting for" in waiting.stderr.readline()
    finally:
        waiting.kill()
        waiting.communicate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("gated", "terms must be accepted at https://huggingface.co/mistralai/Mistral-Small-24B"),
        ("unknown", "not on the hub, or not for this account"),
        ("revision", "there is no such commit"),
    ],
)
def test_a_refusal_says_what_to_do(hub: Hub, job: Job, change: str, message: str) -> None:
    if change == "gated":
        hub.gated.add(REPOSITORY)
    elif change == "unknown":
        hub.repositories.clear()
    else:
        job.configure(revision="2" * 40)
    code, log = job.run()
    assert code == 1 and message in log
    assert "Traceback" not in log


def test_each_model_needs_its_format_and_its_tokenizer() -> None:
    def needed(**model: str) -> list[tuple[str, bool]]:
        config = AppConfig.model_validate({"models": [model]})
        return [(r.repo_id, "consolidated*.safetensors" in r.ignore) for r in repositories(config)]

    small = "mistral-small-24b-instruct-2501"
    assert needed(model=small) == [(REPOSITORY, False)]
    assert needed(model=small, variant="int4", gpu="H100-80GB") == [
        ("stelterlab/Mistral-Small-24B-Instruct-2501-AWQ", True),
        (REPOSITORY, False),
    ]
    assert needed(model="tiny-mistral-small-3.2") == []
