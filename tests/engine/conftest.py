from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from vllm.tokenizers.mistral import MistralTokenizer

from serving.engine.vllm import answering
from serving.tiny.spec import TinySpec
from serving.tiny.tokenizer import write_tokenizer
from tests.engine.grammars import shared_checks
from tests.engine.pictures import PNG
from tests.engine.web import Web, picture, running_web
from tests.support.event_loop import pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]


@pytest.fixture(scope="module", autouse=True)
def grammar_processes() -> Iterator[None]:
    """Starts the processes that compile grammars once a module, not for each front end."""
    with pytest.MonkeyPatch.context() as patch, shared_checks() as shared:
        patch.setattr(answering, "GrammarCheck", shared)
        yield


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with running_web() as web:
        web.routes["/a.png"] = picture(PNG)
        yield web


@pytest.fixture(scope="module", params=["v7", "v11"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """vLLM's tokenizer of each version."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(TinySpec(tokenizer_version=request.param), folder)
    return MistralTokenizer.from_pretrained(str(folder))
