"""The commands, links and paths in the documents are valid."""

import json
import os
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from serving.app import ROUTER, deployment_name
from serving.cli.commands import app
from serving.config import AppConfig
from serving.deploy.lint.pods import upgraded_in_steps
from serving.deploy.manifests import Manifests
from serving.deploy.serve_config import config_of
from serving.router.http.openapi import RELAYED
from tests import documents
from tests.documents import DOCUMENTS, ROOT, Command
from tests.k8s.manifests import OVERLAY_NAMES, base, needs_kubectl, overlay

README_LINES = 150
FIRST_SCREEN_LINES = 45
FOLDERS = ("deploy", "serving", "k8s", "tests", "dashboards", ".ci")
GENERATED = ("serving/catalogue/gpus/measured",)
"""Folders that `mistral-serve` commands make."""
PLACEHOLDER = re.compile(r"…|\b[A-Z][A-Z_]{2,}\b|[{}<>$]")
COMMANDS = [
    command
    for path in DOCUMENTS
    for command in documents.commands(documents.name(path), path.read_text())
]
OURS = [command for command in COMMANDS if command.program == "mistral-serve"]
RUNNABLE = sorted(
    {
        command.arguments
        for command in OURS
        if not PLACEHOLDER.search(" ".join(command.arguments))
        and ("--help" in command.arguments or command.arguments[:1] == ("models",))
    }
)
"""Arguments of the documents' commands that need neither a service nor a file of the reader's."""

by_document = pytest.mark.parametrize("path", DOCUMENTS, ids=documents.name)


def of(program: str) -> pytest.MarkDecorator:
    chosen = [command for command in COMMANDS if command.program == program]
    return pytest.mark.parametrize("command", chosen, ids=str)


EXAMPLE = """
Run `make test`, or `nothing of ours`, see [there](there.md#a-heading).

```sh
HF_TOKEN=hf_… deploy/secrets.sh   # `make nothing`
kubectl get pods \\
    -o name | xargs kubectl logs
curl http://127.0.0.1 -d '{"a":
  1}' | .venv/bin/mistral-serve chat "Hello; there"
```

```promql
make it up
```
"""


def test_commands_and_links_are_found() -> None:
    found = [
        (each.program, *each.arguments, each.is_complete)
        for each in documents.commands("a document", EXAMPLE)
    ]
    assert found == [
        ("deploy/secrets.sh", True),
        ("kubectl", "get", "pods", "-o", "name", True),
        ("curl", "http://127.0.0.1", "-d", '{"a":\n  1}', True),
        ("mistral-serve", "chat", "Hello; there", True),
        ("make", "test", False),
    ]
    assert documents.links(EXAMPLE) == ["there.md#a-heading"]
    assert documents.anchors("# A `heading`, one\n```\n# none\n```") == {"a-heading-one"}
    assert {command.program for command in COMMANDS} >= {"make", "mistral-serve", "kubectl", "curl"}


def test_the_readme_is_short_and_begins_with_what_to_type() -> None:
    readme = ROOT / "README.md"
    assert len(readme.read_text().splitlines()) <= README_LINES
    first_screen = "\n".join(readme.read_text().splitlines()[:FIRST_SCREEN_LINES])
    (serve, *_), (curl, *_) = [
        [block for language, block in documents.blocks(first_screen) if block.startswith(start)]
        for start in ("make serve", "curl ")
    ]
    assert serve and curl


@by_document
def test_links_lead_to_files_and_headings_that_exist(path: Path) -> None:
    for link in documents.links(path.read_text()):
        if link.startswith(("http:", "https:")):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in documents.anchors(target.read_text()), link


@by_document
def test_paths_exist(path: Path) -> None:
    for span in documents.spans(path.read_text()):
        for word in span.split():
            is_path = word.split("/")[0] in FOLDERS and "/" in word
            absent = [p for p in GENERATED if not (ROOT / p).exists()]
            if is_path and not PLACEHOLDER.search(word) and not word.startswith(tuple(absent)):
                assert list(ROOT.glob(word.rstrip("/"))), word


@by_document
def test_blocks_of_json_and_yaml_are_well_formed(path: Path) -> None:
    for language, block in documents.blocks(path.read_text()):
        if language == "json":
            json.loads(block)
        elif language == "yaml":
            document = yaml.safe_load(block)
            if "applications" in document:
                for application in document["applications"]:
                    AppConfig.model_validate(application["args"])
            elif "deployments" in document:
                models = config_of(base().service).models
                known = {ROUTER, *(deployment_name(model.entry.id) for model in models)}
                assert {each["name"] for each in document["deployments"]} <= known


@cache
def makefile_targets() -> dict[str, str]:
    """Returns the targets and their descriptions in `make help`."""
    return dict(re.findall(r"^([a-z-]+):.*## (.*)$", (ROOT / "Makefile").read_text(), re.M))


@of("make")
def test_make_has_the_target(command: Command) -> None:
    targets = [word for word in command.arguments if "=" not in word]
    assert targets or not command.is_complete
    for target in targets:
        assert target in makefile_targets(), target


@pytest.mark.parametrize("command", OURS, ids=str)
def test_mistral_serve_has_the_command_and_its_options(command: Command) -> None:
    found: Any = typer.main.get_command(app)
    arguments = [word for word in command.arguments if word != "…"]
    while arguments and hasattr(found, "commands"):
        assert arguments[0] in found.commands or arguments[0] == "--help", arguments[0]
        found = found.get_command(None, arguments.pop(0)) or found
    if "--help" in arguments or hasattr(found, "commands"):
        return
    context = found.context_class(found, info_name=found.name)
    values, left_over, _ = found.make_parser(context).parse_args(
        arguments
    )  # raises on an unknown option
    assert not left_over
    if command.is_complete:
        assert [p.name for p in found.params if p.required and values.get(p.name) is None] == []


@pytest.mark.parametrize("arguments", RUNNABLE, ids=" ".join)
def test_commands_that_need_no_service_run(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.strip()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.program.endswith(".sh")], ids=str)
def test_scripts_exist_and_can_be_run(command: Command) -> None:
    assert os.access(ROOT / command.program, os.X_OK)


@cache
def names(kind: str) -> set[str]:
    """Returns the names that `kubectl` has for this kind, in k8s/ and among what KubeRay makes of
    it."""
    if kind == "svc":
        made = {f"{name}-{each}-svc" for name in names("rayservice") for each in ("serve", "head")}
        return made | names("service")
    return {each["metadata"]["name"] for each in base().objects if each["kind"].lower() == kind}


def components() -> set[str]:
    text = "\n".join(path.read_text() for path in (ROOT / "k8s").glob("*.yaml"))
    return set(re.findall(r"app\.kubernetes\.io/component: (\w+)", text))


@of("kubectl")
def test_kubectl_is_given_what_is_in_the_manifests(command: Command) -> None:
    follows = "logs" in command.arguments  # the meaning of -f with logs
    for flag, value in pairwise(command.arguments):
        elsewhere = follows or value == "-" or "…" in value or value.startswith("https:")
        if flag in ("-f", "-k") and not elsewhere and not PLACEHOLDER.search(value):
            assert (ROOT / value).exists(), value
        if flag == "-n" and "mistral" in value:
            assert value in names("namespace")
    for component in re.findall(r"app\.kubernetes\.io/component=(\w+)", command.text):
        assert component in components(), component
    for kind, name in re.findall(r"\b(job|rayservice|svc)[/ ]([a-z][a-z-]+)\b", command.text):
        assert name in names(kind), f"{kind} {name}"
    # It selects engines too, and kubectl forwards to any of its pods.
    assert "port-forward svc/mistral-serve-svc" not in command.text


@cache
def endpoints(method: str) -> set[str]:
    """Returns the paths in the API reference's table of endpoints."""
    reference = (ROOT / "serving/router/README.md").read_text()
    rows = re.findall(rf"^\| `{method} (.*?) \|", reference, re.M)
    return {path.strip("` ") for row in rows for path in row.split(",")}


def test_the_reference_has_each_path_that_is_relayed() -> None:
    assert endpoints("POST") == RELAYED


@of("curl")
def test_curl_asks_the_router_for_what_it_answers(command: Command) -> None:
    flags = dict(pairwise(command.arguments))
    for url in [word for word in command.arguments if word.startswith("http")]:
        assert "/" + url.split("/", 3)[3] in endpoints("POST" if "-d" in flags else "GET")
    if "-d" in flags:
        assert json.loads(flags["-d"])["messages"]


@pytest.mark.parametrize("program", ["pip", "serve"])
def test_files_that_other_programs_are_given_exist(program: str) -> None:
    for command in COMMANDS:
        if command.program == program and command.is_complete:
            for word in command.arguments:
                if "/" in word:
                    assert (ROOT / word).exists(), word


GPUS = r"(?:(\d+)[^|]*|none)"
ROW = rf"^\| (?:none: )?`([\w/-]+)` \| [^|]+ \| {GPUS} \| {GPUS} \|$"
_, _, TABLE = (ROOT / "deploy/README.md").read_text().partition("### What it costs in GPUs")
ROWS = {
    name: (int(gpus or 0), int(in_upgrade or 0))
    for name, gpus, in_upgrade in re.findall(ROW, TABLE.partition("###")[0], re.M)
}
"""GPUs of each way to deploy, and during an upgrade, as in deploy/README.md."""


def gpus(manifests: Manifests) -> int:
    config = config_of(manifests.service)
    entries = [(model, model.entry) for model in config.models]
    return sum(
        model.replicas * entry.tensor_parallel_size * entry.pipeline_parallel_size
        for model, entry in entries
        if entry.accelerator == "gpu"
    )


@needs_kubectl
@pytest.mark.parametrize("name", ROWS)
def test_the_table_of_gpus_is_true(name: str) -> None:
    manifests = base() if name == "k8s/" else overlay(name)
    strategy = manifests.service["spec"]["upgradeStrategy"]
    share = {"NewCluster": 100, "None": 0}.get(strategy["type"])
    if upgraded_in_steps(manifests.service):
        share = strategy["clusterUpgradeOptions"]["maxSurgePercent"]
    assert share is not None
    assert ROWS[name] == (gpus(manifests), gpus(manifests) * (100 + share) // 100)


def test_the_table_has_each_way_to_deploy() -> None:
    assert ROWS.keys() == {"k8s/", *OVERLAY_NAMES} - {"kueue"}
