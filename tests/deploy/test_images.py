"""The script that builds and pushes the images, with an engine that only notes what it is told."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ENGINE = """#!/bin/sh
echo "$*" >>"$0.log"
case "$*" in
    *inspect*println*) # an image may have digests in two registries
        for image; do :; done
        name=${image%:*}
        echo "registry.other.com/mistral-serve@sha256:$(printf %064d 1)"
        [ -e "$0.knows-none" ] ||
            echo "${name#docker.io/}@sha256:$(echo "$image" | sha256sum | cut -d' ' -f1)" ;;
esac
"""
"""Lists Docker Hub's images as Docker does, without `docker.io/`."""


def pinned(image: str) -> str:
    digest = hashlib.sha256(f"{image}\n".encode()).hexdigest()
    return f"{image}@sha256:{digest}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in ("k8s", "deploy"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    engine = tmp_path / "podman"
    engine.write_text(ENGINE)
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
    return {image for f in files for image in re.findall(r"image: ([^\s{]+)", f.read_text())}


def test_all_are_pushed_and_all_manifests_name_them_by_digest(checkout: Path) -> None:
    for tag in ("1.2.3", "1.2.4"):  # the second time the first one's names are there
        result = run(checkout, "ghcr.io/acme", tag=tag)
        assert result.returncode == 0, result.stderr
        assert images(checkout) == {
            pinned(f"ghcr.io/acme/mistral-serve:{tag}"),
            pinned(f"ghcr.io/acme/mistral-serve-cpu:{tag}"),
            pinned("ghcr.io/acme/redis:7.2.16-alpine"),
        }
    assert not list(checkout.glob("**/*.old"))
    build = "build --platform linux/amd64 -f deploy/Dockerfile --build-arg ACCELERATOR"
    redis = "docker.io/library/redis:7.2.16-alpine"
    log = (checkout / "podman.log").read_text().splitlines()
    assert [line for line in log if "inspect" not in line][:7] == [
        f"pull --platform linux/amd64 {redis}",
        f"{build}=gpu -t ghcr.io/acme/mistral-serve:1.2.3 .",
        "push ghcr.io/acme/mistral-serve:1.2.3",
        f"{build}=cpu -t ghcr.io/acme/mistral-serve-cpu:1.2.3 .",
        "push ghcr.io/acme/mistral-serve-cpu:1.2.3",
        f"tag {redis} ghcr.io/acme/redis:7.2.16-alpine",
        "push ghcr.io/acme/redis:7.2.16-alpine",
    ]


@pytest.mark.parametrize("registry", ["docker.io/acme", "acme", "localhost:5000/team/acme"])
def test_the_digest_is_found_whatever_the_registry_is(checkout: Path, registry: str) -> None:
    result = run(checkout, registry, tag="1.2.3")
    assert result.returncode == 0, result.stderr
    assert images(checkout) == {
        pinned(f"{registry}/{name}")
        for name in ("mistral-serve:1.2.3", "mistral-serve-cpu:1.2.3", "redis:7.2.16-alpine")
    }


def test_no_manifest_names_an_image_whose_digest_is_unknown(checkout: Path) -> None:
    before = images(checkout)
    (checkout / "podman.knows-none").touch()
    result = run(checkout, "ghcr.io/acme", tag="1.2.3")
    assert result.returncode != 0
    assert "knows no digest of it" in result.stderr
    assert images(checkout) == before


def test_options_of_the_build_are_passed_on(checkout: Path) -> None:
    assert (
        run(checkout, "ghcr.io/acme", "--build-arg", "PIP_INDEX_URL=https://pypi").returncode == 0
    )
    log = (checkout / "podman.log").read_text().splitlines()
    builds = [line for line in log if line.startswith("build")]
    assert all(" --build-arg PIP_INDEX_URL=https://pypi -t " in line for line in builds)


def test_the_tag_is_the_packages_version(checkout: Path) -> None:
    before = images(checkout)
    assert run(checkout, "registry.example.com").returncode == 0
    after = {image.partition("@")[0] for image in images(checkout)}
    assert {image for image in before if "redis" not in image} <= after


def test_without_a_registry_it_says_how(checkout: Path) -> None:
    result = run(checkout)
    assert result.returncode != 0 and "usage: deploy/images.sh REGISTRY" in result.stderr
    assert not (checkout / "podman.log").exists()
