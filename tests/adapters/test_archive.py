"""Adapters in archives at URLs: downloaded, verified, and taken out of them."""

import functools
import hashlib
import http.server
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.adapters.adapter import checked
from serving.adapters.archive import archive_folder, fetch_archive
from serving.adapters.base import base_of
from serving.adapters.config import AdapterConfig
from serving.adapters.files import AdapterError
from serving.config import ModelConfig
from tests.support.tiny_adapters import zero_adapter

BASE = base_of(ModelConfig(model="tiny-mistral-small-3.2", adapters_folder="/unused").entry)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and the URL at which it is served."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def pack(folder: Path, *names: str) -> str:
    """Packs an adapter into a.tar.gz, in a folder of each of the names; returns its SHA-256."""
    zero_adapter(folder / "files")
    with tarfile.open(folder / "a.tar.gz", "w:gz") as tar:
        for name in names:
            tar.add(folder / "files", name)
    return hashlib.sha256((folder / "a.tar.gz").read_bytes()).hexdigest()


def test_an_archive_is_fetched_once_and_checked_like_a_folder(site: tuple[Path, str]) -> None:
    folder, url = site
    sha256 = pack(folder, "out/checkpoint")
    config = AdapterConfig(name="a", source=f"{url}/a.tar.gz", sha256=sha256)
    with pytest.raises(AdapterError, match="is not on the volume of the weights: run `mistral-"):
        checked(config, BASE)
    said: list[str] = []
    fetch_archive(config.source, sha256, said.append)
    version = checked(config, BASE, config)
    of_folder = AdapterConfig(name="a", source=str(folder / "files"))
    assert version.digest == checked(of_folder, BASE).digest
    (folder / "a.tar.gz").unlink()
    fetch_archive(config.source, sha256, said.append)
    assert said[-1].endswith("present and already verified")
    assert [one.name for one in archive_folder(sha256).parent.iterdir()] == [sha256]


def test_an_archive_of_another_content_is_refused_and_nothing_is_left(
    site: tuple[Path, str],
) -> None:
    folder, url = site
    found = pack(folder, "a")
    with pytest.raises(AdapterError, match=f"has the SHA-256 {found}, and 0000"):
        fetch_archive(f"{url}/a.tar.gz", "0" * 64, print)
    assert not list(archive_folder("").iterdir())


def test_what_is_no_archive_of_one_adapter_is_refused_by_name(site: tuple[Path, str]) -> None:
    folder, url = site
    twice = pack(folder, "a", "b")
    with pytest.raises(AdapterError, match="more than one adapter_"):
        fetch_archive(f"{url}/a.tar.gz", twice, print)
    empty = pack(folder)
    with pytest.raises(AdapterError, match=r"has no adapter_config\.json and no adapter_model"):
        fetch_archive(f"{url}/a.tar.gz", empty, print)
    (folder / "text").write_text("text")
    with pytest.raises(AdapterError, match="is no tar archive"):
        fetch_archive(f"{url}/text", hashlib.sha256(b"text").hexdigest(), print)
    with pytest.raises(AdapterError, match="cannot be downloaded: Client error '404"):
        fetch_archive(f"{url}/none", "0" * 64, print)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"source": "https://host/a.tar"}, "an archive needs its SHA-256"),
        (
            {"source": "https://host/a.tar", "sha256": "0" * 64, "revision": "0" * 40},
            "only a repository",
        ),
        ({"source": "/folder", "sha256": "0" * 64}, "only an archive at a URL has one"),
    ],
)
def test_a_source_has_the_pin_of_its_kind(fields: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        AdapterConfig(name="a", **fields)  # type: ignore[arg-type]
