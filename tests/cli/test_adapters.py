"""`mistral-serve adapters`."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from serving.adapters import declared
from serving.adapters.config import AdapterConfig
from serving.cli.commands import app
from tests.support.http_server import BackgroundServer, Request, answering, response
from tests.support.tiny_adapters import zero_adapter


class Service:
    """A config file whose model has a folder for adapters."""

    def __init__(self, folder: Path, **model: object) -> None:
        self.folder = folder / "declared"
        self.folder.mkdir()
        self.config = folder / "serve.yaml"
        settings = {"model": "tiny-mistral-small-3.2", "adapters_folder": str(self.folder)} | model
        document = {"applications": [{"args": {"models": [settings]}}]}
        self.config.write_text(yaml.safe_dump(document))

    def run(self, *arguments: str | Path) -> Result:
        command = ["adapters", *map(str, arguments), "--config", str(self.config)]
        return CliRunner().invoke(app, command, catch_exceptions=False)

    def files(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()]


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def test_an_adapter_is_added_listed_and_removed(service: Service, tmp_path: Path) -> None:
    zero_adapter(tmp_path / "a")
    added = service.run("add", "team/a", tmp_path / "a", "--tenant", "search")
    assert added.exit_code == 0
    assert service.files() == ["team--a.yaml"]
    written = declared.read(service.folder / "team--a.yaml")
    assert (written.name, written.source) == ("team/a", str(tmp_path / "a"))
    assert written.tenants == ("search",)
    listed = service.run("list")
    assert listed.exit_code == 0
    for text in ("team/a", "search", "fits", "8 of rank 16 run at a time"):
        assert text in listed.stdout
    assert service.run("remove", "team/a").exit_code == 0
    assert service.files() == []
    again = service.run("remove", "team/a")
    assert again.exit_code == 2 and "there is no adapter team/a" in again.stderr


def test_a_file_written_by_hand_is_removed_whatever_its_name(
    service: Service, tmp_path: Path
) -> None:
    (service.folder / "mine.yaml").write_text("name: a\nsource: /somewhere\n")
    assert service.run("remove", "a").exit_code == 0
    assert service.files() == []


def test_a_bad_adapter_is_not_added(service: Service, tmp_path: Path) -> None:
    zero_adapter(tmp_path / "a", rank=64, base_model_name_or_path="other/model", use_dora=True)
    for command in (("check",), ("add", "a")):
        refused = service.run(*command, tmp_path / "a")
        assert refused.exit_code == 1
        for reason in ("wrong base", "unsupported method: DoRA", "rank above the limit"):
            assert reason in refused.stderr
    assert service.files() == []


def test_a_good_one_is_said_to_fit(service: Service, tmp_path: Path) -> None:
    zero_adapter(tmp_path / "a")
    checked = service.run("check", tmp_path / "a")
    assert checked.exit_code == 0
    assert checked.stdout.startswith("fits mistral-serve/tiny-mistral-small-3.2: 0.0 MiB")


def test_the_list_names_what_is_refused_and_why(service: Service, tmp_path: Path) -> None:
    zero_adapter(tmp_path / "high", rank=64)
    (service.folder / "high.yaml").write_text(f"name: high\nsource: {tmp_path / 'high'}\n")
    (service.folder / "broken.yaml").write_text("name: [\n")
    listed = service.run("list")
    assert listed.exit_code == 1
    assert "rank above the limit" in listed.stdout and "not YAML" in listed.stdout


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("tiny", "/folder", "tiny is a name of the model itself"),
        ("a", "relative/folder/x", "source: allowed is an absolute path"),
        ("a", "owner/name", "revision: a repository needs the commit"),
        ("a", "/nowhere", "broken files: there is no folder /nowhere"),
    ],
)
def test_a_mistake_is_named(service: Service, name: str, source: str, message: str) -> None:
    refused = service.run("add", name, source)
    assert refused.exit_code in (1, 2) and message in refused.stderr


def test_a_service_without_adapters_says_what_to_set(tmp_path: Path) -> None:
    service = Service(tmp_path, adapters_folder=None)
    refused = service.run("list")
    assert refused.exit_code == 2
    assert "no model takes adapters: set adapters_folder or adapters of a model" in refused.stderr


def declare(service: Service, folder: Path, **fields: object) -> None:
    zero_adapter(folder / "1")
    zero_adapter(folder / "2", lora_alpha=32)
    declared.write(
        service.folder,
        AdapterConfig(name="a", source=str(folder / "1"), **fields),  # type: ignore[arg-type]
    )


def read(service: Service) -> AdapterConfig:
    (file,) = service.files()
    return declared.read(service.folder / file)


def test_a_canary_is_declared_given_more_and_promoted(service: Service, tmp_path: Path) -> None:
    declare(service, tmp_path, tenants=("search",), aliases=("b",))
    assert service.run("canary", "a", tmp_path / "2").exit_code == 0
    with_more = service.run(
        "canary", "a", tmp_path / "2", "--weight", "0.25", "--after-requests", "300"
    )
    assert with_more.exit_code == 0
    canary = read(service).canary
    assert canary is not None and canary.rule is not None
    assert (canary.source, canary.weight) == (str(tmp_path / "2"), 0.25)
    assert canary.rule.requests == 300
    assert f"canary {tmp_path / '2'} with 25%" in service.run("list").stdout
    assert service.run("promote", "a").exit_code == 0
    assert read(service) == AdapterConfig(
        name="a", source=str(tmp_path / "2"), tenants=("search",), aliases=("b",)
    )
    none = service.run("promote", "a")
    assert none.exit_code == 2 and "a has no canary" in none.stderr


def test_a_canary_is_withdrawn(service: Service, tmp_path: Path) -> None:
    declare(service, tmp_path)
    before = read(service)
    service.run("canary", "a", tmp_path / "2")
    assert service.run("withdraw", "a").exit_code == 0
    assert read(service) == before


def test_a_bad_canary_is_not_declared(service: Service, tmp_path: Path) -> None:
    declare(service, tmp_path)
    zero_adapter(tmp_path / "bad", rank=64)
    bad = service.run("canary", "a", tmp_path / "bad")
    assert bad.exit_code == 1 and "rank above the limit" in bad.stderr
    heavy = service.run("canary", "a", tmp_path / "2", "--weight", "2")
    assert heavy.exit_code == 2 and "weight" in heavy.stderr
    unknown = service.run("canary", "b", tmp_path / "2")
    assert unknown.exit_code == 2 and "there is no adapter b" in unknown.stderr
    assert read(service).canary is None


class TwoVersions(BackgroundServer):
    """Answers with the version that is asked for, and to some prompts alike or not at all."""

    def __init__(self) -> None:
        super().__init__(answering(self._answer))

    @staticmethod
    def _answer(request: Request) -> bytes:
        version = (request.header(b"x-adapter-version") or b"").decode()
        prompt = json.loads(request.body)["messages"][0]["content"]
        if (prompt, version) == ("fails", "canary"):
            return response(b'{"error": {"message": "it failed"}}', 503)
        said = "the same" if prompt == "same" else version
        events = [{"choices": [{"delta": {"content": part}}]} for part in (said, "!")]
        body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        return response(body.encode())


def test_versions_are_compared_by_their_answers(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    with TwoVersions() as server:
        options = ["--prompts", str(prompts), "--url", f"http://127.0.0.1:{server.port}"]
        prompts.write_text("same\nother\n\n")
        done = CliRunner().invoke(app, ["adapters", "compare", "a", *options])
        assert done.exit_code == 0
        assert "other\n  stable: stable!\n  canary: canary!\n1 of 2 answers differ" in done.stdout
        assert "canary: 0 errors, median TTFT" in done.stdout
        prompts.write_text("same\nfails\n")
        failed = CliRunner().invoke(app, ["adapters", "compare", "a", *options])
        assert failed.exit_code == 1
        assert "canary: error: it failed" in failed.stdout
        assert "canary: 1 errors" in failed.stdout
