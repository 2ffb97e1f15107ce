"""Each alert has a runbook, whose commands, queries and names exist."""

import copy
import json
import re
import shlex
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.core import TyperGroup

from dashboards.generate.alerts import RUNBOOKS_URL
from serving.catalogue.lora import Lora
from serving.cli.commands import app
from serving.config import AppConfig
from serving.deploy.lint import security
from serving.deploy.manifests import Manifests
from tests.dashboards import queries
from tests.k8s.mistakes import changed

SECTIONS = ["What users see", "Confirm", "Likely causes", "Fix", "Prevent"]
PLACEHOLDERS = {"POD", "HEAD_POD", "NODE", "REPLICA", "REQUEST", "SECRET", "RAYCLUSTER"}
"""Words that the reader replaces."""

KUBECTL = {
    *("apply", "cordon", "create", "delete", "describe", "exec", "get", "logs", "patch"),
    *("port-forward", "run", "scale", "taint"),
}
KINDS = {
    *(
        "rayservice",
        "raycluster",
        "nodes",
        "pods",
        "pod",
        "events",
        "pvc",
        "job",
        "secrets",
        "statefulset",
        "networkpolicies",
    ),
    *(
        "certificates",
        "certificaterequests",
        "orders",
        "challenges",
        "podmonitors",
        "scrapeconfigs",
    ),
}
PROGRAMS = {"kubectl", "mistral-serve", "curl", "git", "make", "xargs", "grep", "tail"}
OVERLAY = (
    "`$OVERLAY` is what you installed: `k8s`, or your folder of `deploy/overlays/`, which may have "
    "a Serve config of its own in `deploy/serve/`."
)
ADMIN_KEY = (
    "export ADMIN_KEY=$(kubectl -n mistral-serve get secret admin-key "
    "-o 'jsonpath={.data.key}' | base64 -d)"
)
KEY_OPTIONS = {"--admin-key-env": "ADMIN_KEY", "--api-key-env": "API_KEY"}
"""Options of `mistral-serve` that name the variable of a key, and the variables that pages use."""
PRODUCTION_FILE = queries.ROOT / "deploy/serve/production.yaml"
PRODUCTION_ARGS = yaml.safe_load(PRODUCTION_FILE.read_text())["applications"][0]["args"]
PRODUCTION = AppConfig.model_validate(PRODUCTION_ARGS)
_STARTS = ("kubectl ", "mistral-serve ", "make ")


@pytest.fixture(params=queries.RUNBOOKS, ids=lambda path: path.stem)
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def commands(page: Path, mentioned: bool = True) -> list[list[str]]:
    """The commands in the code blocks and the text of a page, each part of a pipe by itself. Those
    that are only `mentioned` in the text have no options.
    """
    text = page.read_text()
    lines = [line for block in queries.blocks(text, "sh") for line in block.splitlines()]
    lines = [line for line in lines if line.strip() != ADMIN_KEY]
    codes = [code for code in re.findall(r"`([^`\n]+)`", text) if code.startswith(_STARTS)]
    lines += [code for code in codes if mentioned or " --" in code]
    return [
        list(part)
        for line in lines
        for is_pipe, part in groupby(shlex.split(line), lambda word: word == "|")
        if not is_pipe
    ]


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    alerts = {rule["alert"] for rule in queries.alerts()}
    assert {path.stem for path in queries.RUNBOOKS} == alerts
    for rule in queries.alerts():
        url = rule["annotations"]["runbook_url"]
        assert url == f"{RUNBOOKS_URL}/{rule['alert']}.md"
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_a_page_has_all_sections(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    assert re.findall(r"^## (.*)$", text, re.M) == SECTIONS
    confirm = text.split("## Confirm")[1].split("## Likely causes")[0]
    assert queries.blocks(confirm, "promql"), "a query that shows it"
    causes = text.split("## Likely causes")[1].split("## Fix")[0]
    assert len(re.findall(r"^\d\. ", causes, re.M)) >= 2


def test_alerts_and_dashboards_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    assert set(re.findall(r"\bMistral[A-Z]\w+", text)) <= {path.stem for path in queries.RUNBOOKS}
    titles = {one["title"] for one in queries.dashboards().values()}
    assert set(re.findall(r"\*(Mistral / [\w ]+)\*", text)) <= titles


def test_the_commands_of_a_page_exist(page: Path) -> None:
    found = commands(page)
    assert found
    for words in found:
        program, *rest = words
        assert program in PROGRAMS, words
        if program == "mistral-serve":
            check_mistral_serve(rest)
        elif program == "kubectl":
            check_kubectl(rest)
        elif program == "xargs" and "kubectl" in rest:
            check_kubectl(rest[rest.index("kubectl") + 1 :])
        upper = {word for word in rest if re.fullmatch(r"[A-Z_]{3,}", word)}
        assert upper <= PLACEHOLDERS | {"FILE", "MODEL", "HEAD", "NAME", *KEY_OPTIONS.values()}, (
            words
        )


def test_what_is_applied_is_what_was_installed(page: Path) -> None:
    """k8s/ alone would take the changes of an overlay back."""
    text = page.read_text()
    applied = set(re.findall(r"kubectl apply (?!-f -)([^`\n]+)", text))
    assert applied <= {'-k "$OVERLAY"', "-f k8s/monitoring/"}
    text = unwrapped(text)
    assert ("$OVERLAY" in text.replace(OVERLAY, "")) == (OVERLAY in text)


def test_replicas_are_added_without_replacing_those_that_run(page: Path) -> None:
    text = page.read_text()
    fix = text.split("## Fix")[1].split("## Prevent")[0]
    if "dd replicas" in fix or "dd routers" in fix:
        (block,) = queries.blocks(fix, "yaml")
        (deployment,) = yaml.safe_load(block)["deployments"]
        assert deployment["num_replicas"] > PRODUCTION.models[0].replicas
    if "max_replicas" in fix:
        assert re.search("Any change below `args`.* replaces every", unwrapped(fix))
    if "maxReplicas" in fix:
        assert "patch raycluster RAYCLUSTER" in fix
        assert "k8s/11-quota.yaml" in fix


def test_commands_bring_the_keys_that_production_asks_for(page: Path) -> None:
    text = page.read_text()
    for words in commands(page, mentioned=False):
        program, *rest = words
        if program == "mistral-serve":
            for option in key_options(rest):
                assert f"{option} {KEY_OPTIONS[option]}" in " ".join(rest), words
    if "ADMIN_KEY" in text:
        assert ADMIN_KEY in text
    if "API_KEY" in text:
        assert "a key of yours" in unwrapped(text)


def test_settings_that_a_page_names_can_be_set_in_production(page: Path) -> None:
    text = unwrapped(page.read_text())
    names = re.findall(r"`(router\.[\w.]+)`", text)
    names += [f"{part}.{name}" for name, part in re.findall(r"`(\w+)` of `(router\.\w+)`", text)]
    for name in names:
        args = copy.deepcopy(PRODUCTION_ARGS)
        value: Any = PRODUCTION
        section = args
        *parents, last = name.split(".")
        for part in parents:
            value, section = getattr(value, part), section.setdefault(part, {})
        section.setdefault(last, getattr(value, last))
        AppConfig.model_validate(args)
    assert set(re.findall(r"`lora\.(\w+)`", text)) <= Lora.model_fields.keys()
    found = re.findall(r"((?:`[\w-]+` or )*`[\w-]+`) in (?:the model's|its) `vllm_args`", text)
    flags = [flag for each in found for flag in re.findall(r"[\w-]{3,}", each)]
    model = PRODUCTION_ARGS["models"][0] | {"vllm_args": dict.fromkeys(flags, 8)}
    AppConfig.model_validate(PRODUCTION_ARGS | {"models": [model]})


def test_the_key_options_are_those_of_the_commands() -> None:
    assert key_options(["poison", "clear"]) == {"--admin-key-env"}
    assert key_options(["conformance", "--url", "x"]) == {"--api-key-env"}
    assert key_options(["models", "MODEL"]) == set()


def test_what_a_page_asks_kubernetes_for_is_in_the_manifests(page: Path) -> None:
    text = page.read_text()
    manifests = "".join(file.read_text() for file in (queries.ROOT / "k8s").glob("*.yaml"))
    for component in re.findall(r"app.kubernetes.io/component=([a-z]+)", text):
        assert f"app.kubernetes.io/component: {component}\n" in manifests
    for container in re.findall(r" -c ([a-z-]+)", text):
        assert re.search(rf"- name: {container}\n", manifests), container
    for kind, name in (("RayService", "mistral"), ("Job", "weights"), ("StatefulSet", "redis")):
        assert re.search(rf"^kind: {kind}\nmetadata:\n  name: {name}\n", manifests, re.M)
    for name in re.findall(r"k8s/[\w/-]+\.yaml", text):
        assert (queries.ROOT / name).exists()


def unwrapped(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def key_options(words: list[str]) -> set[str]:
    """The options of a `mistral-serve` command that name a key's variable."""
    return {name for name in options_of(words) if name.endswith("-key-env")}


def options_of(words: list[str]) -> set[str]:
    command: Any = typer.main.get_command(app)
    for word in words:
        if isinstance(command, TyperGroup):
            command = command.get_command(typer.Context(command), word)
            assert command, f"there is no `mistral-serve {' '.join(words)}`"
    return {name for parameter in command.params for name in parameter.opts}


def check_mistral_serve(words: list[str]) -> None:
    options = options_of(words)
    given = {word for word in words if word.startswith("--")}
    assert given <= options, f"`mistral-serve {words[0]}` has no {given - options}"


def check_kubectl(words: list[str]) -> None:
    if words[:1] == ["-n"]:
        assert words[1] in ("mistral-serve", "cert-manager", "kuberay-system"), words
        words = words[2:]
    if not words or words[0] == "drain":
        return
    verb, *rest = words
    assert verb in KUBECTL, f"kubectl {verb}"
    if verb in ("get", "describe", "delete"):
        assert set(rest[0].split(",")) <= KINDS, f"kubectl {verb} {rest[0]}"
    if verb == "exec":
        assert "--" in rest, words


def test_a_pod_that_a_page_runs_is_admitted_to_the_namespace(page: Path) -> None:
    for words in commands(page):
        for word in words:
            option, _, spec = word.partition("=")
            if option == "--overrides":
                text = spec.replace("IMAGE", "registry.example.com/mistral-serve-cpu:0.1.0")
                pod = json.loads(text)["spec"]
                objects = changed("Job weights", "spec.template.spec", pod)
                assert list(security.problems(Manifests("", tuple(objects)))) == []


def test_inhibitions_name_alerts_that_exist_and_silence_no_one_who_is_to_be_woken() -> None:
    text = (queries.FOLDER / "alertmanager.yaml").read_text()
    known: dict[str, set[str]] = {}
    for rule in queries.alerts():
        known.setdefault(rule["alert"], set()).add(rule["labels"]["severity"])
    for rule in yaml.safe_load(text)["inhibit_rules"]:
        source, target = (matchers(rule[f"{side}_matchers"]) for side in ("source", "target"))
        assert rule["equal"]
        for side in (source, target):
            assert set(side.get("alertname", known)) <= set(known)
        sources = source.get("severity") or severities(known, source)
        targets = target.get("severity") or severities(known, target)
        assert sources == {"critical"} or targets == {"warning"}, rule


def matchers(texts: list[str]) -> dict[str, set[str]]:
    """The values that a list of matchers allows for each label."""
    found = (re.fullmatch(r'(\w+)=~?"(.*)"', text) for text in texts)
    return {match[1]: set(match[2].split("|")) for match in found if match is not None}


def severities(known: dict[str, set[str]], side: dict[str, set[str]]) -> set[str]:
    return {severity for name in side["alertname"] for severity in known[name]}
