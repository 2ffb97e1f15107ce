"""Where compiled kernels are kept."""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from serving.engine import kernel_cache

ALL = (
    "VLLM_CACHE_ROOT",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "FLASHINFER_WORKSPACE_BASE",
)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    with mock.patch.dict(os.environ):
        for variable in (*ALL, kernel_cache.ROOT):
            os.environ.pop(variable, None)
        yield


def folders(root: Path, gpu: str) -> dict[str, Path]:
    os.environ[kernel_cache.ROOT] = str(root)
    kernel_cache.use(gpu)
    return {variable: Path(os.environ[variable]) for variable in ALL if variable in os.environ}


def test_each_image_and_type_of_gpu_has_folders_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folders(tmp_path, "H100")
    assert set(first) == set(ALL) and len(set(first.values())) == len(ALL)
    assert all(tmp_path in path.parents for path in first.values())
    assert folders(tmp_path, "H100") == first
    assert not set(folders(tmp_path, "L40S").values()) & set(first.values())
    monkeypatch.setattr(kernel_cache, "distributions", lambda: [])
    assert not set(folders(tmp_path, "H100").values()) & set(first.values())


def test_without_a_folder_that_can_be_written_vllm_takes_its_own(tmp_path: Path) -> None:
    assert folders(tmp_path / "missing", "H100") == {}
    del os.environ[kernel_cache.ROOT]
    kernel_cache.use("H100")
    assert not set(ALL) & os.environ.keys()
