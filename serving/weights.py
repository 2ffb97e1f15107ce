"""Downloads the weights of a config's models into Hugging Face's cache, and checks them.

A repository at a commit is complete when all its files that a model reads have the sizes and
checksums that the hub reports. That is recorded beside them, so that later checks need no network.
"""

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from serving.catalogue import CatalogueEntry
from serving.catalogue.vllm_flags import vllm_flags
from serving.config import AppConfig
from serving.copied_weights import damaged

if TYPE_CHECKING:
    from huggingface_hub import DryRunFileInfo

GIB = 1024**3
_REPORT_EVERY_S = 10
_SPARE_BYTES = GIB
_LARGE_BYTES = 16 * 1024**2
_OTHER_FORMATS = ("*.bin", "*.ckpt", "*.gguf", "*.h5", "*.msgpack", "*.onnx", "*.pt", "*.pth")
_WEIGHTS = (*_OTHER_FORMATS, "*.safetensors")
_BESIDE_ADAPTERS = (*_OTHER_FORMATS, "checkpoint-*")
"""What repositories of adapters have from training."""
_NOT_OF_FORMAT = {
    # Mistral's repositories contain their weights in both formats.
    "mistral": (*_OTHER_FORMATS, "model*.safetensors"),
    "hf": (*_OTHER_FORMATS, "consolidated*.safetensors"),
}

Say = Callable[[str], None]


class WeightsError(Exception):
    """Weights cannot be downloaded; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Repository:
    """The part of a repository on the hub that a model needs."""

    repo_id: str
    revision: str | None
    """Commit; by default the current one of the main branch."""
    ignore: tuple[str, ...]
    """Patterns of files that are not needed."""

    def __str__(self) -> str:
        return f"{self.repo_id} at {(self.revision or 'main')[:7]}"


def repositories(config: AppConfig) -> list[Repository]:
    """Returns the repositories on the hub that the engines of `config` load, each once:
    of models, and of the adapters that the config has."""
    found: dict[Repository, None] = {}
    for model in config.models:
        entry = model.entry
        if entry.kind == "vllm" and entry.embedded is None:
            found |= dict.fromkeys(_of_model(entry))
        for adapter in model.adapters:
            for version in adapter.versions:
                if version.revision is not None:
                    repository = Repository(version.source, version.revision, _BESIDE_ADAPTERS)
                    found[repository] = None
    return list(found)


def _of_model(entry: CatalogueEntry) -> Iterator[Repository]:
    if not Path(entry.weights).is_dir():
        format_ = str(vllm_flags(entry).get("load-format", ""))
        ignore = _NOT_OF_FORMAT.get(format_, _OTHER_FORMATS)
        yield Repository(entry.weights, entry.revision, ignore)
    tokenizer = entry.tokenizer_repository
    if tokenizer is not None and not Path(tokenizer).is_dir():
        yield Repository(tokenizer, entry.tokenizer_revision, _WEIGHTS)


def is_whole(repository: Repository) -> bool:
    """Whether all files are present and unchanged since they were verified. Needs no network."""
    try:
        sizes = json.loads(_note(repository).read_text())
        snapshot = _snapshot(repository)
        return all((snapshot / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def fetch(repository: Repository, say: Say) -> None:
    """Downloads missing files, continuing where an earlier try stopped, and verifies all. Offline
    (HF_HUB_OFFLINE) it verifies what was copied. Raises WeightsError."""
    from huggingface_hub import constants

    if is_whole(repository):
        say(f"{repository}: present and already verified")
        return
    with _explained(repository):
        if constants.HF_HUB_OFFLINE:
            say(f"{repository}: verifying what was copied")
            _verify_copy(repository)
        else:
            _bring(repository, say)
        sizes = _note_sizes(repository)
    say(f"{repository}: complete, {sum(sizes.values()) / GIB:.1f} GiB in {len(sizes)} files")


def _note_sizes(repository: Repository) -> dict[str, int]:
    """Records that a repository is complete, by the sizes of its files, and returns these."""
    snapshot = _snapshot(repository)
    sizes = {
        str(path.relative_to(snapshot)): path.stat().st_size
        for path in snapshot.rglob("*")
        if path.is_file()
    }
    note = _note(repository)
    note.parent.mkdir(exist_ok=True)
    partial = note.with_suffix(".partial")
    partial.write_text(json.dumps(sizes))
    partial.rename(note)
    return sizes


def _bring(repository: Repository, say: Say) -> None:
    missing = _missing(repository, say)
    missing_bytes = sum(file.file_size or 0 for file in missing)
    _check_disk(repository, missing_bytes)
    with _progress(repository, missing_bytes, say):
        for file in missing:
            _fetch_if_large(repository, file)
        _download(repository)
    say(f"{repository}: verifying")
    _verify(repository)


def _verify_copy(repository: Repository) -> None:
    """Verifies files that were copied into the cache. Raises WeightsError."""
    try:
        snapshot = _snapshot(repository)
    except OSError:
        snapshot = _folder(repository)
    if wrong := damaged(snapshot, repository.ignore):
        raise WeightsError(
            f"{repository}: HF_HUB_OFFLINE is set, and absent or damaged at {snapshot}: "
            f"{', '.join(wrong)}. Copy the whole folder {_folder(repository).name} again."
        )


def _missing(repository: Repository, say: Say) -> "list[DryRunFileInfo]":
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    files = snapshot_download(
        repository.repo_id,
        revision=repository.revision,
        ignore_patterns=list(repository.ignore),
        dry_run=True,
    )
    missing = [file for file in files if file.will_download]
    of_all, of_missing = (sum(f.file_size or 0 for f in some) / GIB for some in (files, missing))
    say(
        f"{repository}: {len(files)} files, {of_all:.1f} GiB; "
        f"to fetch {len(missing)} files, {of_missing:.1f} GiB"
    )
    return missing


def _fetch_if_large(repository: Repository, file: "DryRunFileInfo") -> None:
    """Downloads a large file to where the hub's client then finds it. The client itself would begin
    a file again after a crash, and there is one of 48 GB."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    # The client transfers larger files differently.
    if not _LARGE_BYTES <= (file.file_size or 0) <= constants.MAX_HTTP_DOWNLOAD_SIZE:
        return
    url = hf_hub_url(repository.repo_id, file.filename, revision=file.commit_hash)
    metadata = get_hf_file_metadata(url)
    assert metadata.etag is not None
    blob = _folder(repository) / "blobs" / metadata.etag
    partial = blob.with_suffix(".partial")
    blob.parent.mkdir(parents=True, exist_ok=True)
    partial.touch()
    with partial.open("r+b") as out:
        resume_size = out.seek(0, os.SEEK_END)
        http_get(
            url,
            out,
            resume_size=resume_size,
            headers=build_hf_headers(),
            expected_size=metadata.size,
        )
    partial.rename(blob)


def _download(repository: Repository) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download(
        repository.repo_id,
        revision=repository.revision,
        ignore_patterns=list(repository.ignore),
    )


def _check_disk(repository: Repository, missing_bytes: int) -> None:
    folder = _folder(repository)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free + _partial_bytes(folder)
    if free < missing_bytes + _SPARE_BYTES:
        raise WeightsError(
            f"{repository}: {missing_bytes / GIB:.1f} GiB to fetch, but only {free / GIB:.1f} GiB "
            f"free at {folder.parent}: enlarge the volume, or remove unused weights"
        )


def _verify(repository: Repository) -> None:
    """Verifies all files. Removes damaged ones, so that the next try fetches them, and raises
    WeightsError."""
    from huggingface_hub import HfApi

    result = HfApi().verify_repo_checksums(repository.repo_id, revision=repository.revision)
    for mismatch in result.mismatches:
        path = result.verified_path / mismatch["path"]
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    if result.mismatches:
        damaged = ", ".join(mismatch["path"] for mismatch in result.mismatches)
        raise WeightsError(
            f"{repository}: damaged and removed: {damaged}. The next try fetches it."
        )


@contextlib.contextmanager
def _explained(repository: Repository) -> Iterator[None]:
    """Converts the hub's errors to WeightsError."""
    from huggingface_hub import errors

    try:
        yield
    except (errors.HfHubHTTPError, errors.DryRunError, OSError, RuntimeError) as error:
        # The hub's client raises RuntimeError when a transfer breaks off.
        cause = error.__cause__ if isinstance(error, errors.DryRunError) else None
        raise WeightsError(f"{repository}: {_reason(repository, cause or error)}") from None


def _reason(repository: Repository, error: BaseException) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            "its terms must be accepted at "
            f"https://huggingface.co/{repository.repo_id}, by the account whose token is HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return "there is no such commit: set the model's revision in the config"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            "it is not on the hub, or not for this account: check the model's weights in the "
            "config, and the token in HF_TOKEN"
        )
    if isinstance(error, PermissionError):
        return (
            f"user {os.getuid()} and group {os.getgid()} cannot write {error.filename}: make the "
            "volume's folder theirs, as its storage class may ignore a pod's fsGroup"
        )
    return str(error).strip() or type(error).__name__


@contextlib.contextmanager
def _progress(repository: Repository, missing_bytes: int, say: Say) -> Iterator[None]:
    """Reports the progress every few seconds, by the bytes on disk."""
    folder, over = _folder(repository), threading.Event()
    before, start_s = _bytes(folder), time.monotonic()
    at_first = before - _partial_bytes(folder)

    def report() -> None:
        while not over.wait(_REPORT_EVERY_S):
            now = _bytes(folder)
            rate = (now - before) / (time.monotonic() - start_s)
            come = now - at_first
            left = f", {(missing_bytes - come) / rate / 60:.0f} min left" if rate > 0 else ""
            say(
                f"{repository}: {come / GIB:.1f} of {missing_bytes / GIB:.1f} GiB, "
                f"{rate / 1e6:.0f} MB/s{left}"
            )

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _bytes(folder: Path) -> int:
    """Returns the bytes on disk of a repository's files, complete or not."""
    total = 0
    for path in (folder / "blobs").glob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total


def _partial_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in (folder / "blobs").glob("*.partial"))


def _folder(repository: Repository) -> Path:
    from huggingface_hub import constants

    name = "models--" + repository.repo_id.replace("/", "--")
    return Path(constants.HF_HUB_CACHE) / name


def _snapshot(repository: Repository) -> Path:
    """Returns the snapshot's folder. Raises OSError for a main branch that was never fetched."""
    folder, revision = _folder(repository), repository.revision
    ref = folder / "refs" / (revision or "main")
    commit = revision if revision and not ref.is_file() else ref.read_text().strip()
    return folder / "snapshots" / commit


def _note(repository: Repository) -> Path:
    files = hashlib.sha256("\n".join(repository.ignore).encode()).hexdigest()[:8]
    return _folder(repository) / "whole" / f"{_snapshot(repository).name}-{files}.json"
