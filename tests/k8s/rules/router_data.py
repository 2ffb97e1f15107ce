"""Mistakes in what routers read and keep: keys, files of batches, stored responses."""

from tests.k8s.mistakes import CONFIG, CONTAINER, RAY, REMOVE, ROUTER, Mistake
from tests.k8s.serve_configs import of_router, serve_config, with_batches

CONF, CONF_KEY = "ConfigMap redis", "data.redis~conf"

MISTAKES: dict[str, list[Mistake]] = {
    "authentication/mount": [
        (RAY, f"{ROUTER}.{CONTAINER}.volumeMounts.4.subPath", "keys", "router: no volume is at"),
        (RAY, f"{ROUTER}.{CONTAINER}.volumeMounts.4.mountPath", "/etc/keys", "the keys_file /etc"),
        (RAY, CONFIG, of_router("tls: {certificate_file: /tls/tls.crt, key_file: /tls/tls.key}"),
         "no volume is at the tls.key_file /tls/tls.key"),
    ],
    "authentication/file": [
        (RAY, CONFIG, serve_config("/keys.json", "/key.json"),
         "the volume keys has admin-key, keys.json, not the keys_file"),
        (RAY, f"{ROUTER}.template.spec.volumes.4.projected.sources.1.secret.items.0.path", "admin",
         "the volume keys has admin, keys.json, not the admin_key_file"),
        (RAY, f"{ROUTER}.template.spec.volumes.4.projected.sources.1.secret.items", REMOVE,
         "the volume keys has key, keys.json, not the admin_key_file"),
    ],
    "folders/batches": [
        (RAY, CONFIG, with_batches("{}"), "each router would have its own files")
    ],
    "folders/no-volume": [
        (RAY, CONFIG, with_batches("{folder: /batches}"),
         "router: the router.batches.folder /batches is on no volume"),
        # The weights' volume, which routers only read.
        (RAY, CONFIG, with_batches("{folder: /models/batches}"), "is on no volume"),
    ],
    "folders/one-node": [
        ("PersistentVolumeClaim models", "spec.accessModes", ["ReadWriteOnce"],
         "is for pods of one node, not head, redis-cleanup, router, engine, "
         "Job mistral-serve/weights"),
    ],
    "responses/redis-address": [
        ("Service redis", "spec.ports.0.port", 6380, "redis_url redis://redis.mistral-serve.svc")
    ],
    "responses/password": [
        (RAY, f"{ROUTER}.{CONTAINER}.env", [], "no variable RESPONSES_REDIS_PASSWORD")
    ],
    "responses/memory": [
        (CONF, CONF_KEY, "maxmemory 600mb", "responses take up to 320 MiB, more than half"),
        (CONF, CONF_KEY, "", "more than half of Redis' maxmemory"),
        (CONF, CONF_KEY, "maxmemory 1gb\nmaxmemory-policy allkeys-lru", "may evict"),
    ],
}  # fmt: skip
