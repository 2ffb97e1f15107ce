"""`mistral-serve adapters`."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from serving.adapters import declared
from serving.cli import app
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
