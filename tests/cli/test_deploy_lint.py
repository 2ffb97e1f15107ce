"""`mistral-serve deploy lint`."""

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serving.cli.commands import app
from tests.cli.deployed import manifests, replace
from tests.k8s.manifests import ADD_ONS, K8S, OVERLAY_PARAMETERS, OVERLAYS, ROOT, needs_kubectl


def lint(*arguments: str, text: str | None = None) -> Result:
    command = ["deploy", "lint", *arguments]
    return CliRunner().invoke(app, command, input=text, catch_exceptions=False)


def test_nothing_is_wrong_with_k8s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = lint()
    assert result.output == "39 objects, nothing wrong\n"
    assert result.exit_code == 0


@pytest.mark.parametrize("name", OVERLAY_PARAMETERS)
def test_nothing_is_wrong_with_an_overlay(name: str) -> None:
    result = lint(str(OVERLAYS / name))
    assert result.output.endswith(" objects, nothing wrong\n"), result.output


@pytest.mark.parametrize("name", ADD_ONS)
def test_nothing_is_wrong_with_what_is_applied_beside_it(name: str) -> None:
    files = [*sorted(K8S.glob("*.yaml")), *sorted((K8S / name).glob("*.yaml"))]
    result = lint("-", text="\n---\n".join(file.read_text() for file in files))
    assert result.output.endswith(" objects, nothing wrong\n"), result.output


def test_each_mistake_is_a_line_with_what_mends_it(tmp_path: Path) -> None:
    folder = manifests(tmp_path)
    replace(folder, "maxReplicas: 8", "maxReplicas: 1")
    replace(folder, "serviceAccountName: ray-head", "serviceAccountName: head")
    result = lint(str(folder))
    service = "RayService mistral-serve/mistral"
    for line in (
        f"{service}, router: minReplicas 2 is above maxReplicas 1; lower the one or raise the "
        "other [kuberay/group-bounds-order]",
        f"{service}, head: there is no ServiceAccount head; add it, or correct the name "
        "[references/missing]",
    ):
        assert line in result.stdout.splitlines()
    count = len(result.stdout.splitlines())
    assert result.stderr == f"{count} findings in 39 objects\n"
    assert result.exit_code == 1


@pytest.mark.parametrize(("installed", "said"), [(True, "no-such-flag"), (False, "not checked")])
def test_vllm_reads_its_flags_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool, said: str
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "serving.engine.vllm.arguments", None)
    folder = manifests(tmp_path)
    for file in ("30-serve-config.yaml", "40-rayservice.yaml"):
        text = (folder / file).read_text()
        with_a_flag = re.sub(r"(\n +)variant: ", r"\1vllm_args: {no-such-flag: 1}\g<0>", text)
        (folder / file).write_text(with_a_flag)
    result = lint(str(folder))
    assert said in result.output
    assert result.exit_code == int(installed)


@needs_kubectl
def test_a_users_overlay_is_checked(tmp_path: Path) -> None:
    manifests(tmp_path)
    folder = tmp_path / "overlay"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(
        """
        resources: [../k8s]
        patches:
          - target: {kind: RayService}
            patch: |
              - {op: replace, path: /spec/rayClusterConfig/workerGroupSpecs/1/maxReplicas, value: 2}
        """
    )
    result = lint(str(folder))
    assert "engine: no pod can take over from one whose node is drained" in result.stdout
    assert result.exit_code == 1


def test_a_manifest_that_lacks_a_field_is_a_line_and_no_trace(tmp_path: Path) -> None:
    folder = manifests(tmp_path)
    replace(folder, "headGroupSpec:", "headGroup:")
    result = lint(str(folder))
    assert result.stdout == (
        "RayService mistral-serve/mistral: the manifest does not have the form that Kubernetes "
        "expects (missing field 'headGroupSpec'); `kubectl apply --dry-run=server -f …` names each "
        "mistake [linter/malformed]\n"
    )
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: [", "cannot be read as YAML"),
        ("kind: Pod\n", "not a Kubernetes object"),
        ("kind: Service\nkind: ConfigMap\n", "kind stands twice"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", "has 0 RayServices"),
    ],
)
def test_what_cannot_be_checked_is_bad_input(text: str, said: str) -> None:
    result = lint("-", text=text)
    assert result.exit_code == 2
    assert said in result.stderr
