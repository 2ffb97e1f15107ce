"""Tests of the checks of this machine before anything starts."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from serving.cli import preflight
from serving.config import AppConfig, ModelConfig, RouterConfig

OWN = "tokenizer: v7\ncontext_tokens: 1000\nsampling: {temperature: 0}\n"


def config(*models: ModelConfig) -> AppConfig:
    return AppConfig(router=RouterConfig(cpus=1, replicas=2), models=models)


@pytest.fixture
def remote(tmp_path: Path) -> ModelConfig:
    """A model that runs on another machine."""
    file = tmp_path / "remote.yaml"
    file.write_text("id: me/remote\nkind: openai\nbase_url: http://ollama\n" + OWN)
    return ModelConfig(model=str(file))


def test_a_model_that_runs_elsewhere_needs_nothing_here(
    remote: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2 * 2**30))
    monkeypatch.setattr(preflight, "_NUMA_LIBRARY", "libnowhere.so.1")
    preflight.check_gpus(config(remote))
    preflight.check_cpu_libraries(config(remote))
    preflight.check_memory(config(remote))
    preflight.check_vllm_args(config(remote))
    assert preflight.cpus_needed(config(remote)) == 2


def test_gpus_are_counted_over_replicas_and_stages() -> None:
    large = ModelConfig(
        model="mistral-small-3.2-24b-instruct-2506",
        replicas=100,
        pipeline_parallel_size=2,
    )
    with pytest.raises(preflight.PreflightError, match="need 400 GPUs"):
        preflight.check_gpus(config(large))


def test_a_library_that_cpu_engines_need_and_lack_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = config(ModelConfig(model="tiny-mistral-small-3.2"))
    preflight.check_cpu_libraries(tiny)
    monkeypatch.setattr(preflight, "_NUMA_LIBRARY", "libnowhere.so.1")
    with pytest.raises(preflight.PreflightError, match=r"need libnowhere\.so\.1.*apt-get install"):
        preflight.check_cpu_libraries(tiny)


@pytest.mark.parametrize("where", ["file", "config"])
def test_a_flag_that_vllm_does_not_take_is_refused(tmp_path: Path, where: str) -> None:
    file = tmp_path / "mine.yaml"
    flags = "vllm_args: {no-such-flag: 1}\n"
    file.write_text("id: me/mine\nweights: me/mine\n" + OWN + (flags if where == "file" else ""))
    ours = {"no-such-flag": 1} if where == "config" else {}
    model = ModelConfig(model=str(file), vllm_args=ours)
    with pytest.raises(preflight.PreflightError, match=r"models\.0\.vllm_args: .*no-such-flag"):
        preflight.check_vllm_args(config(model))
