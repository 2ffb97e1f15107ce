"""Rules of stored responses: routers reach the Redis that keeps them, and it has room for them."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from serving.config import AppConfig
from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.connections import is_listened_to
from serving.deploy.lint.pods import groups, ray_container
from serving.deploy.lint.rules import report_on
from serving.deploy.manifests import Manifests

_REDIS_PORT = 6379
_ROUNDED_UP = 1.25
"""What Redis takes for a byte of responses."""
_SHARE = 0.5
"""What responses may take of Redis' memory: the rest is for the state of Ray's head."""
_UNITS = {"": 1, "k": 10**3, "kb": 2**10, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30}


def problems(manifests: Manifests, config: AppConfig) -> Iterator[Finding]:
    service, stored = manifests.service, config.router.responses
    if stored.redis_url is None or not stored.max_bytes:
        return
    wrong = report_on(named(service), "responses")
    url = urlsplit(stored.redis_url)
    if not is_listened_to(manifests, url.hostname or "", url.port or _REDIS_PORT):
        yield wrong("redis-address", f"no Service listens at the redis_url {stored.redis_url}")
    for group in groups(service, "router"):
        names = {variable["name"] for variable in ray_container(group).get("env", ())}
        if stored.redis_password_env not in {None, *names}:
            what = f"has no variable {stored.redis_password_env} with the password of Redis"
            yield wrong("password", f"{group['groupName']}: {what}")
    for config_map in manifests.of_kind("ConfigMap"):
        if (text := config_map.get("data", {}).get("redis.conf")) is not None:
            for message in _of_memory(text, stored.max_bytes):
                yield report_on(named(config_map), "responses")("memory", message)


def _of_memory(redis_conf: str, max_bytes: int) -> Iterator[str]:
    settings = dict(re.findall(r"^(maxmemory\S*) +(\S+) *$", redis_conf, re.M))
    if settings.get("maxmemory-policy", "noeviction") != "noeviction":
        yield "Redis may evict the state of Ray's head to make room for responses, or them for it"
    amount = re.fullmatch(r"(\d+)([a-z]*)", settings.get("maxmemory", "0").lower())
    most = int(amount[1]) * _UNITS.get(amount[2], 0) if amount else 0
    if most * _SHARE < max_bytes * _ROUNDED_UP:
        needs = f"{max_bytes * _ROUNDED_UP / 2**20:.0f} MiB"
        yield f"responses take up to {needs}, more than half of Redis' maxmemory"
