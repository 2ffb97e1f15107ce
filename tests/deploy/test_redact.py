"""serving/deploy/redact.py: what must not leave the cluster."""

import pytest

from serving.deploy.redact import GONE, cleaned, line


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("token is hf_AbCdEfGhIjKlMn in use", "hf_AbC"),
        ("Authorization: Bearer abc.def-ghi", "abc.def"),
        ("{'authorization': 'Bearer abcdef'}", "abcdef"),
        ("redis://:s3cret@redis:6379", "s3cret"),
        ("redis://user:s3cret@redis:6379", "s3cret"),
        ("requirepass=s3cret", "s3cret"),
        ('"api_key": "s3cret", "port": 8000', "s3cret"),
        ("--api-key=s3cret --port 8000", "s3cret"),
        ("key sk-abcdefghijklmnop is used", "sk-abc"),
        ("jwt eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0 end", "eyJhbG"),
        ('Received request cmpl-1: prompt: "I have a rash", params: x', "rash"),
        ("{'messages': [{'role': 'user', 'content': 'I have a rash'}]}", "rash"),
        ('{"model": "m", "input": "I have a rash"}', "rash"),
        ('{"prompt_token_ids": [1, 22177, 1095]}', "22177"),
        ("url=data:image/png;base64,iVBORw0KGgo= end", "iVBOR"),
    ],
)
def test_secrets_and_prompts_go_from_lines(text: str, hidden: str) -> None:
    assert hidden in text
    assert hidden not in line(text)
    assert GONE in line(text)


@pytest.mark.parametrize(
    "text",
    [
        "prompt_tokens=31 generation_tokens: 16 max_tokens=512",
        "secret ray-auth-token is not there",
        "mistral-serve-svc.mistral-serve:8000 answers 200 in 31 ms",
        "Tokenizer: tekken, vocab 131072",
        "loading weights took 31.5 s",
    ],
)
def test_what_support_needs_stays(text: str) -> None:
    assert line(text) == text


def test_secrets_keep_their_keys_and_nothing_else() -> None:
    secret = {
        "kind": "Secret",
        "metadata": {"name": "s", "annotations": {"a": "s3cret"}},
        "data": {"password": "czNjcmV0"},
    }
    assert cleaned(secret) == {
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"password": GONE},
    }


def test_variables_that_sound_like_secrets_lose_their_value_and_references_stay() -> None:
    reference = {"secretKeyRef": {"name": "hf-token", "key": "HF_TOKEN"}}
    pod = {
        "kind": "Pod",
        "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "spec": {
            "automountServiceAccountToken": False,
            "env": [
                {"name": "HF_TOKEN", "value": "s3cret"},
                {"name": "HF_HOME", "value": "/models"},
                {"name": "REDIS_PASSWORD", "valueFrom": reference},
            ],
        },
    }
    assert cleaned(pod) == {
        "kind": "Pod",
        "metadata": {"annotations": {}},
        "spec": {
            "automountServiceAccountToken": False,
            "env": [
                {"name": "HF_TOKEN", "value": GONE},
                {"name": "HF_HOME", "value": "/models"},
                {"name": "REDIS_PASSWORD", "valueFrom": reference},
            ],
        },
    }


def test_texts_within_objects_are_cleaned_line_by_line() -> None:
    config = {"data": {"serve.yaml": "port: 8000\napi_key: s3cret\nreplicas: 2"}}
    assert cleaned(config) == {"data": {"serve.yaml": f"port: 8000\napi_key: {GONE}\nreplicas: 2"}}
