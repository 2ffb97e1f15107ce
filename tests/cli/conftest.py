"""A cluster for the tests of `mistral-serve deploy`, and what the tests of commands share."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serving.cli.commands import app
from serving.deploy import drain, follow, rollout
from tests.cli.deployed import ROOT, make_ready
from tests.cluster.cluster import Cluster

Deploy = Callable[..., Result]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster with nothing but Kubernetes itself; the user's kubeconfig leads to it."""
    (tmp_path / "cluster").mkdir()
    with Cluster(tmp_path / "cluster") as made:
        monkeypatch.setenv("KUBECONFIG", str(made.kubeconfig))
        monkeypatch.chdir(ROOT)
        yield made


@pytest.fixture
def ready(cluster: Cluster) -> Cluster:
    """A cluster with all that k8s/ needs."""
    make_ready(cluster)
    return cluster


@pytest.fixture
def handlers() -> Iterator[None]:
    """Restores the handler of SIGTERM that the command replaces."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Deploy:
    """Runs a deploy command, which polls at once instead of after seconds."""
    monkeypatch.setattr(follow, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(drain, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(rollout, "SETTLE_S", 0.05)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["deploy", *arguments], catch_exceptions=False)

    return run
