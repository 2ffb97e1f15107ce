"""The image's recipe, as far as a machine without an engine for containers can check it."""

import fnmatch
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from serving.deploy.lint.pods import pods
from tests.deploy.dockerfile import Stage, parse
from tests.deploy.locks import CPU, pins
from tests.k8s.manifests import base

ROOT = Path(__file__).parents[2]
ARGUMENTS, STAGES = parse(ROOT / "deploy/Dockerfile")
IMAGE = STAGES[-1]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path from the build: its last line that matches decides."""
    parts = [str(part) for part in (Path(path), *Path(path).parents)]
    result = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        anywhere = pattern.startswith("**/")
        names = [Path(part).name if anywhere else part for part in parts]
        if not line.startswith("#") and fnmatch.filter(names, pattern.removeprefix("**/")):
            result = not line.startswith("!")
    return result


def test_the_base_is_rays_image_of_the_locked_version() -> None:
    assert {stage.base for stage in STAGES} == {f"rayproject/ray:{pins('gpu')['ray']}-py311-gpu"}
    assert pins("gpu")["ray"] == pins(*CPU)["ray"] == ARGUMENTS["RAY_VERSION"]


def test_head_routers_and_engines_share_versions_of_what_they_exchange() -> None:
    """The Serve application is built on one node, and its objects go to the others by pickle."""
    gpu, cpu = pins("gpu"), pins(*CPU)
    for package in (
        "ray",
        "cloudpickle",
        "pydantic",
        "pydantic-core",
        "fastapi",
        "starlette",
        "msgspec",
    ):
        assert gpu[package] == cpu[package], package


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name or "image")
def test_each_source_of_a_copy_is_there_and_in_the_build(stage: Stage) -> None:
    for flags, sources, _ in stage.copies:
        if (other := flags.get("from")) is not None:
            assert other in {s.name for s in STAGES}
        else:
            for source in sources:
                assert (ROOT / source).exists(), source
                assert not ignored(source), source


def test_the_build_gets_nothing_that_it_does_not_need() -> None:
    for path in (".git/config", ".venv/bin/python", "tests/conftest.py", "k8s/20-redis.yaml"):
        assert ignored(path), path
    assert ignored("serving/__pycache__/app.pyc")


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name or "image")
def test_each_run_step_is_a_script_that_a_shell_takes(stage: Stage) -> None:
    for rest in stage.of("RUN"):
        command = re.sub(r"^(--\S+\s+)+", "", rest)
        assert subprocess.run(["sh", "-n", "-c", command]).returncode == 0, command
        for word in (part.split()[0] for part in re.split(r"&&|\|\|?|;(?= )", command)):
            ours = word.removeprefix("/tmp/build/")
            known = {"mistral-serve", "ray", "python", "if", "then", "fi"}
            assert word in known or shutil.which(word) or (ROOT / "deploy" / ours).exists(), word


def test_it_runs_as_the_user_of_the_manifests_with_their_home() -> None:
    *_, user = IMAGE.of("USER")
    uid, gid = map(int, user.split(":"))
    for pod in pods(base()):
        ours = [c for c in pod.containers if "/mistral-serve" in c["image"]]
        for container in ours:
            context = pod.spec["securityContext"]
            assert (context["runAsUser"], context["runAsGroup"]) == (uid, gid), pod.owner
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            wanted = {"/tmp"} | (
                {IMAGE.environment["HOME"]} if container["name"] != "autoscaler" else set()
            )
            assert wanted <= mounts, f"{pod.owner}, {container['name']}"


def test_it_has_a_user_name_for_ids_without_one_as_openshift_gives() -> None:
    """PyTorch names a folder after the user, and fails where /etc/passwd has none of that id."""
    assert IMAGE.environment["USER"]


def test_programs_of_the_manifests_are_on_its_path() -> None:
    assert IMAGE.environment["PATH"].startswith("/opt/mistral-serve/bin:")
    install = next(command for command in IMAGE.of("RUN") if "install.sh" in command)
    assert '"$ACCELERATOR" /opt/mistral-serve' in install


def test_each_index_can_be_a_mirror_and_a_password_for_one_is_not_kept() -> None:
    assert ARGUMENTS["RAY_IMAGE"] == "rayproject/ray"
    for stage in STAGES:
        assert {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"} <= set(stage.of("ARG"))
        downloads = [run for run in stage.of("RUN") if "pip wheel" in run or "install.sh" in run]
        assert len(downloads) == 1
        assert downloads[0].startswith("--mount=type=secret,id=pip,target=/etc/pip.conf ")
    assert "UBUNTU_MIRROR" in IMAGE.of("ARG")
    # BuildKit would fetch a frontend that is named here.
    assert "syntax=" not in (ROOT / "deploy/Dockerfile").read_text()


def test_ubuntus_mirror_takes_the_place_of_its_servers(tmp_path: Path) -> None:
    sources = tmp_path / "sources.list.d/ubuntu.sources"
    sources.parent.mkdir()
    sources.write_text(
        "URIs: http://archive.ubuntu.com/ubuntu/ https://security.ubuntu.com/ubuntu\n"
    )
    (command,) = [run for run in IMAGE.of("RUN") if "UBUNTU_MIRROR" in run]
    script = command.partition("fi ")[0] + "fi"
    subprocess.run(
        ["sh", "-ec", script.replace("/etc/apt", str(tmp_path))],
        env={"PATH": "/usr/bin:/bin", "UBUNTU_MIRROR": "https://apt.acme.com/ubuntu"},
        check=True,
    )
    assert sources.read_text() == "URIs: https://apt.acme.com/ubuntu/ https://apt.acme.com/ubuntu\n"


def test_it_has_what_vllms_kernels_link_and_its_last_step_loads_them() -> None:
    assert any("libnuma1" in run for run in IMAGE.of("RUN"))
    assert 'check_image.py "$ACCELERATOR"' in IMAGE.of("RUN")[-1]


def test_no_secret_is_in_it() -> None:
    for stage in STAGES:
        for instruction, rest in stage.instructions:
            assert instruction != "ADD"
            assert instruction not in ("ARG", "ENV") or not re.search(
                r"token|password|key", rest, re.I
            )


def test_its_tag_is_the_packages_version() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    images = {
        c["image"] for pod in pods(base()) for c in pod.containers if "/mistral-serve" in c["image"]
    }
    assert {image.rpartition(":")[2] for image in images} == {version[1]}
    assert {image.rpartition("/")[2].partition(":")[0] for image in images} == {
        "mistral-serve",
        "mistral-serve-cpu",
    }
