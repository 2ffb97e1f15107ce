"""All rules over the manifests of one service."""

from collections.abc import Iterable, Iterator
from typing import Any

from serving.deploy.lint import (
    connections,
    kuberay,
    lifecycle,
    network,
    references,
    security,
    serve_config,
    sizing,
)
from serving.deploy.lint.finding import Finding
from serving.deploy.lint.lifecycle import UsageError
from serving.deploy.lint.shape import shape
from serving.deploy.manifests import Manifests
from serving.deploy.serve_config import config_of


def lint(manifests: Manifests, usage_error: UsageError) -> list[Finding]:
    """The rules that the manifests break, each finding once. `usage_error` gives the error of a
    `mistral-serve` command line. Raises BadInput unless there is one RayService.
    """
    manifests = Manifests(manifests.source, tuple(map(_without_nulls, manifests.objects)))
    malformed = _once(shape(manifests))
    return malformed or _once(_problems(manifests, usage_error))


def _problems(manifests: Manifests, usage_error: UsageError) -> Iterator[Finding]:
    yield from references.problems(manifests)
    yield from connections.problems(manifests)
    yield from network.problems(manifests)
    yield from security.problems(manifests)
    yield from kuberay.problems(manifests.service)
    in_config = list(serve_config.problems(manifests))
    yield from in_config
    if not any(finding.rule == serve_config.INVALID for finding in in_config):
        config = config_of(manifests.service)
        yield from sizing.problems(manifests, config)
        yield from lifecycle.problems(manifests, config, usage_error)


def _once(findings: Iterable[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))


def _without_nulls(value: Any) -> Any:
    """Removes fields that are null, which Kubernetes treats as absent."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
