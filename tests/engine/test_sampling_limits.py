"""What would end an engine whose model runner is vLLM's V2 is a 400 before the engine has it."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import vllm.v1.worker.gpu.sample as model_runners

from serving.engine.vllm import sampling_limits
from tests.engine.asking import CHAT, COMPLETIONS, asked
from tests.engine.fake_llm import FakeLlm

IDS = list(range(100, 400))


def words(count: int) -> list[str]:
    return [f"{index:03}" for index in range(count)]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"allowed_token_ids": IDS * 4}, "allowed_token_ids", "at most 1024 token ids"),
        ({"logit_bias": dict.fromkeys(range(1025), 1)}, "logit_bias", "at most 102[34] tokens"),
        (
            {"stop_token_ids": IDS[:128], "min_tokens": 1},
            "stop_token_ids",
            "at most 127 token ids beside min_tokens",
        ),
        ({"bad_words": words(129)}, "bad_words", "The max number is 128"),
        ({"bad_words": ["xyz" * 200, "zyx" * 200]}, "bad_words", "at most 1024 tokens together"),
    ],
)
async def test_too_many(path: str, fields: dict[str, Any], param: str, message: str) -> None:
    engine = FakeLlm()
    response = await asked(engine, path, **fields)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert error["message"].startswith((param, "Too many bad words"))
    assert re.search(message, error["message"])
    assert engine.calls == []


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    "fields",
    [
        {"allowed_token_ids": (IDS * 4)[:1024]},
        {"logit_bias": dict.fromkeys(range(1023), 1)},
        {"stop_token_ids": IDS[:127], "min_tokens": 1},
        {"stop_token_ids": IDS},
        {"bad_words": words(60)},
    ],
)
async def test_as_many_as_fit(path: str, fields: dict[str, Any]) -> None:
    engine = FakeLlm()
    assert (await asked(engine, path, **fields)).status_code == 200
    (call,) = engine.calls
    assert len(call.params.logit_bias or ()) <= 1024


def test_these_are_all_the_limits_of_vllms_model_runner() -> None:
    """Each one is an error in the source of its samplers."""
    raised = {
        (path.name, message)
        for path in Path(model_runners.__path__[0]).glob("*.py")
        for message in re.findall(r'raise ValueError\(\s*f?"(Too many [\w ]+)', path.read_text())
    }
    assert raised == {
        ("logit_bias.py", "Too many allowed token IDs"),
        ("logit_bias.py", "Too many logit bias tokens"),
        ("logit_bias.py", "Too many stop tokens"),
        ("bad_words.py", "Too many bad words"),
        ("bad_words.py", "Too many total bad word tokens"),
        ("logprob.py", "Too many logprob_token_ids"),  # which no request here has
    }
    source = inspect.getsource(sampling_limits)
    constants = set(re.findall(r"(?:VLLM_)?MAX_NUM_[A-Z_]+|VLLM_MAX_[A-Z_]+", source))
    used = " ".join(path.read_text() for path in Path(model_runners.__path__[0]).glob("*.py"))
    assert all(constant in used for constant in constants)
