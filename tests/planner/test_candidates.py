import pytest

from serving import catalogue
from serving.catalogue import CatalogueEntry, CatalogueError
from serving.planner.candidates import candidates

SMALL = catalogue.read("mistral-small-3.2-24b-instruct-2506")


def of(gpu: str, context_tokens: int | None = None) -> dict[tuple[str | None, int], CatalogueEntry]:
    found = candidates(SMALL, gpu, (1, 2), None, context_tokens)
    return {(entry.variant, entry.tensor_parallel_size): entry for entry in found}


def test_each_build_is_there_once_for_each_size_under_the_name_for_it() -> None:
    assert set(of("H100-80GB")) == {
        *(("bf16-tp1", 1), ("bf16-tp2", 2)),
        *((name, size) for name in ("fp8", "int4") for size in (1, 2)),
    }


def test_the_context_is_what_there_is_room_for_unless_it_is_asked_for() -> None:
    fp8 = of("L40S")["fp8", 1]
    memory = fp8.memory()
    assert memory and memory.fits
    assert fp8.context_tokens < SMALL.context_tokens
    assert memory.kv_tokens - fp8.context_tokens < 4096
    asked = of("L40S", 131_072)["fp8", 1].memory()
    assert asked and not asked.fits
    assert of("H100-80GB")["fp8", 1].context_tokens == SMALL.context_tokens


def test_an_unknown_gpu_is_named() -> None:
    with pytest.raises(CatalogueError, match="unknown GPU type 'H9000'"):
        of("H9000")
