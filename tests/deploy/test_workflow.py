"""The workflow that tests the service on a kind cluster and publishes the images.

It is not run here: what it names must exist, and its versions are the project's.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documents import ROOT
from tests.k8s.manifests import needs_kubectl, overlay

WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/cluster.yaml").read_text())
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
COMMANDS = [step["run"] for step in STEPS if "run" in step]
SCRIPT = "\n".join(COMMANDS)


def test_a_step_is_a_command_or_an_action_of_one_commit() -> None:
    for step in STEPS:
        assert ("run" in step) != ("uses" in step), step
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step["uses"]


def test_no_checkout_leaves_its_token_to_the_steps_after_it() -> None:
    checkouts = [step for step in STEPS if "checkout" in step.get("uses", "")]
    assert len(checkouts) == len(WORKFLOW["jobs"])
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_shell_understands_it(command: str) -> None:
    text = re.sub(r"\$\{\{.*?\}\}", "value", command)
    result = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_targets_and_files_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"\bmake ([a-z-]+)", SCRIPT)
    assert targets == ["test-cluster"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    files = set(re.findall(r"\bdeploy/[\w/.-]+", SCRIPT))
    locks = {"deploy/requirements/gpu.txt", "deploy/requirements/cpu.txt"}
    assert files == {"deploy/Dockerfile", "deploy/overlays/cpu", *locks}
    for name in files:
        assert (ROOT / name).exists(), name
    arguments = re.findall(r"--build-arg (\w+)=", SCRIPT)
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    assert all(f"ARG {name}" in dockerfile for name in arguments)


def test_versions_are_the_project_s() -> None:
    environment = WORKFLOW["env"]
    readme = (ROOT / "deploy/README.md").read_text()
    assert f"kuberay/kuberay-operator --version {environment['KUBERAY_VERSION']} " in readme
    pythons = [step["with"]["python-version"] for step in STEPS if "setup-python" in str(step)]
    assert set(pythons) == {"3.11"}
    assert "python3.11" in (ROOT / "deploy/setup.sh").read_text()


@needs_kubectl
def test_the_image_it_builds_is_the_overlay_s() -> None:
    (service,) = [each for each in overlay("cpu").objects if each["kind"] == "RayService"]
    head = service["spec"]["rayClusterConfig"]["headGroupSpec"]
    image = head["template"]["spec"]["containers"][0]["image"]
    assert WORKFLOW["env"]["CPU_IMAGE"] == image


def test_an_image_s_name_is_lower_case_whoever_owns_the_repository(tmp_path: Path) -> None:
    (push,) = [command for command in COMMANDS if "--push" in command]
    for program in ("docker", "jq"):
        (tmp_path / program).write_text('#!/bin/sh\necho "$@"\n')
        (tmp_path / program).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "GITHUB_REPOSITORY_OWNER": "Acme-AI",
        "GITHUB_REF_NAME": "v1.2.3",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "NAME": "mistral-serve",
    }
    said = subprocess.run(
        ["bash", "-e"],
        input=re.sub(r"\$\{\{.*?\}\}", "gpu", push),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--tag ghcr.io/acme-ai/mistral-serve:1.2.3 ." in said.stdout
    assert "ghcr.io/acme-ai/mistral-serve " in (tmp_path / "summary").read_text()


def test_images_are_published_after_the_test_and_the_audit_with_sbom_and_provenance() -> None:
    publish = WORKFLOW["jobs"]["publish"]
    assert publish["needs"] == ["kind", "audit"]
    assert publish["permissions"]["packages"] == "write"
    assert "write" not in WORKFLOW["permissions"].values()
    (push,) = [step["run"] for step in publish["steps"] if "--push" in step.get("run", "")]
    for option in ("--sbom=true", "--provenance=mode=max", "--metadata-file"):
        assert option in push
    assert "containerimage.digest" in push
    names = {each["name"] for each in publish["strategy"]["matrix"]["include"]}
    assert names == {"mistral-serve", "mistral-serve-cpu"}
