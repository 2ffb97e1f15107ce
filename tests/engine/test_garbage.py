"""What an import of vLLM leaves to Python's garbage collector."""

import gc

import pytest

from serving.engine.garbage import only_new_collected


def test_what_was_made_is_never_collected_and_the_rest_is_as_before() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        with pytest.raises(ImportError), only_new_collected():
            stays: list[list[None]] = [[] for _ in range(1000)]
            raise ImportError
        assert gc.get_freeze_count() >= frozen + len(stays)
        assert gc.get_threshold() == before
    finally:
        gc.unfreeze()
