"""The script that builds and pushes the images, with an engine that only notes what it is told."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in ("k8s", "deploy"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    engine = tmp_path / "podman"
    engine.write_text('#!/bin/sh\necho "$*" >>"$0.log"\n')
    engine.chmod(0o755)
    # As macOS's: what follows a bare -i is the ending of the copies that it keeps.
    sed = tmp_path / "bin/sed"
    sed.parent.mkdir()
    sed.write_text(
        f'#!/bin/sh\n[ "$1" = -i ] && {{ ending=$2; shift 2; set -- "-i$ending" "$@"; }}\n'
        f'exec {shutil.which("sed")} "$@"\n'
    )
    sed.chmod(0o755)
    return tmp_path


def run(checkout: Path, *arguments: str, tag: str = "") -> "subprocess.CompletedProcess[str]":
    path = f"{checkout / 'bin'}:{os.environ['PATH']}"
    environment = {"PATH": path, "DOCKER": str(checkout / "podman")}
    return subprocess.run(
        [checkout / "deploy/images.sh", *arguments],
        env=environment | ({"TAG": tag} if tag else {}),
        capture_output=True,
        text=True,
    )


def images(checkout: Path) -> set[str]:
    files = [*checkout.glob("k8s/*.yaml"), *checkout.glob("deploy/overlays/*/*.yaml")]
    return {image for f in files for image in re.findall(r"image: (\S+)", f.read_text())}


def test_both_are_built_and_pushed_and_all_manifests_name_them(checkout: Path) -> None:
    for tag in ("1.2.3", "1.2.4"):  # the second time the first one's names are there
        result = run(checkout, "ghcr.io/acme", tag=tag)
        assert result.returncode == 0, result.stderr
        assert images(checkout) == {
            f"ghcr.io/acme/mistral-serve:{tag}",
            f"ghcr.io/acme/mistral-serve-cpu:{tag}",
            "docker.io/library/redis:7.2.5-alpine",
        }
    assert not list(checkout.glob("**/*.old"))
    build = "build -f deploy/Dockerfile --build-arg ACCELERATOR"
    assert (checkout / "podman.log").read_text().splitlines()[:4] == [
        f"{build}=gpu -t ghcr.io/acme/mistral-serve:1.2.3 .",
        "push ghcr.io/acme/mistral-serve:1.2.3",
        f"{build}=cpu -t ghcr.io/acme/mistral-serve-cpu:1.2.3 .",
        "push ghcr.io/acme/mistral-serve-cpu:1.2.3",
    ]


def test_the_tag_is_the_packages_version(checkout: Path) -> None:
    before = images(checkout)
    assert run(checkout, "registry.example.com").returncode == 0
    assert images(checkout) == before


def test_without_a_registry_it_says_how(checkout: Path) -> None:
    result = run(checkout)
    assert result.returncode != 0 and "usage: deploy/images.sh REGISTRY" in result.stderr
    assert not (checkout / "podman.log").exists()
