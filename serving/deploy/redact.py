"""Takes secrets and prompts out of what leaves the cluster for support."""

import re
from typing import Any

GONE = "***"

_TOKEN = "token(?!s|iz|_ids?)"
"""Names of access tokens, not of the tokens of a text."""
_SECRET_NAME = re.compile(rf"{_TOKEN}|secret|passw|credential|api[-_]?key|auth|private", re.I)
_OF_NO_SECRET = ("secretName", "secretKeyRef", "secretRef", "authOptions", "imagePullSecrets",
                 "automountServiceAccountToken", "serviceAccountToken", "secret", "secrets",
                 "tokenExpirationSeconds")  # fmt: skip
"""Fields that only name a secret, or only sound like one."""
_PROMPT_NAME = re.compile(
    r"^(prompt|messages|content|input|instructions|system|text|arguments|suffix|delta|output|"
    r"prompt_token_ids|token_ids|image_url|documents|query|reasoning)$"
)
_VALUES = (
    re.compile(r"\bhf_[A-Za-z0-9]{8,}"),
    re.compile(r"\b(sk|pk|ghp|gho|glpat|xox[abp])[-_][A-Za-z0-9_-]{10,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    re.compile(r"(?<=earer )[^\s'\",}]+"),
    re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
    re.compile(r"data:image/[a-z+.-]+;base64,[A-Za-z0-9+/=]+"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.S),
)
_KEYS = rf"{_TOKEN}|secret|passw(?:or)?d|credential|api[-_]?key|authorization|requirepass"
_VALUE = r"\"[^\"]*\"|'[^']*'|[^\s,;}\]]+"
_NAMED = re.compile(rf"(?i)\b([\w-]*(?:{_KEYS})[\w-]*[\"']?\s*[:=]\s*)({_VALUE})")
_PROMPT_KEYS = (
    "prompt|messages|content|input|instructions|text|arguments|prompt_token_ids|token_ids"
)
_PROMPT = re.compile(rf"(?i)([\"']?\b(?:{_PROMPT_KEYS})[\"']?\s*[:=]\s*)([\"'\[{{].*)$")


def line(text: str) -> str:
    """A line of a log with secrets blanked, and all of it from the first prompt on."""
    for pattern in _VALUES:
        text = pattern.sub(GONE, text)
    return _NAMED.sub(rf"\1{GONE}", _PROMPT.sub(rf"\1{GONE}", text))


def cleaned(value: Any, name: str = "") -> Any:
    """A Kubernetes object without the values of secrets, of variables that sound like one and of
    prompts; other texts are treated like lines of a log.
    """
    if isinstance(value, dict):
        if value.get("kind") == "Secret":
            data = [*(value.get("data") or {}), *(value.get("stringData") or {})]
            kept = {key: value[key] for key in ("apiVersion", "kind", "type") if key in value}
            metadata = {
                key: value["metadata"][key]
                for key in ("name", "namespace", "creationTimestamp")
                if key in value["metadata"]
            }
            return kept | {"metadata": metadata, "data": dict.fromkeys(data, GONE)}
        if "value" in value and isinstance(value.get("name"), str) and is_secret(value["name"]):
            return value | {"value": GONE}
        return {
            key: GONE if _hidden(key, each) else cleaned(each, key)
            for key, each in value.items()
            if key not in ("managedFields", "kubectl.kubernetes.io/last-applied-configuration")
        }
    if isinstance(value, list):
        return [cleaned(each, name) for each in value]
    if isinstance(value, str):
        return "\n".join(map(line, value.split("\n")))
    return value


def is_secret(name: str) -> bool:
    """Whether a variable or field of that name may hold one."""
    return name not in _OF_NO_SECRET and bool(_SECRET_NAME.search(name))


def _hidden(name: str, value: Any) -> bool:
    if isinstance(value, dict | list | bool | int | float) or value is None:
        return isinstance(value, list) and bool(_PROMPT_NAME.match(name))
    return is_secret(name) or bool(_PROMPT_NAME.match(name))
