"""All rules over the manifests of one service."""

from bisect import bisect_left
from typing import Any

from serving.deploy.errors import BadInput
from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint import (
    authentication,
    connections,
    deployments,
    folders,
    kuberay,
    lifecycle,
    network,
    outside,
    references,
    responses,
    security,
    serve_config,
    sizing,
)
from serving.deploy.lint.pods import WORKLOADS
from serving.deploy.lint.rules import report_on
from serving.deploy.manifests import Manifests
from serving.deploy.serve_config import config_of

_READING_ERRORS = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, BadInput)
"""Errors of a rule that reads an object which lacks a field or has one of another type."""


def lint(
    manifests: Manifests, usage_error: lifecycle.UsageError, vllm_error: serve_config.VllmError
) -> list[Finding]:
    """The rules that the manifests break, each finding once. `usage_error` gives the error of a
    `mistral-serve` command line, `vllm_error` that of a config's vllm_args. Raises BadInput unless
    there is one RayService.
    """
    objects = [_without_nulls(obj) for obj in manifests.objects]
    service = Manifests(manifests.source, tuple(objects)).service
    # Pods stand before what selects them: the first object that cannot be read is malformed.
    objects.sort(key=lambda obj: (obj is not service, obj["kind"] not in WORKLOADS))

    def broken(count: int) -> list[Finding] | Exception:
        try:
            part = Manifests(manifests.source, tuple(objects[:count]))
            return _broken(part, usage_error, vllm_error)
        except _READING_ERRORS as error:
            return error

    found = broken(len(objects))
    if isinstance(found, list):
        return found
    counts = range(1, len(objects))
    first = bisect_left(counts, True, key=lambda count: isinstance(broken(count), Exception))
    message = f"does not have the form that Kubernetes expects ({_reason(broken(first + 1))})"
    return [report_on(named(objects[first]), "linter")("malformed", f"the manifest {message}")]


def _reason(error: object) -> str:
    if isinstance(error, KeyError):
        return f"missing field {error}"
    is_clear = isinstance(error, ValueError | BadInput)
    return str(error) if is_clear else "a field is empty or has another type"


def _broken(
    manifests: Manifests, usage_error: lifecycle.UsageError, vllm_error: serve_config.VllmError
) -> list[Finding]:
    found = [
        *references.problems(manifests),
        *connections.problems(manifests),
        *network.problems(manifests),
        *security.problems(manifests),
        *kuberay.problems(manifests.service),
        *serve_config.problems(manifests),
    ]
    if not any(finding.rule == "serve_config/invalid" for finding in found):
        in_args = config_of(manifests.service)
        found += deployments.problems(manifests.service, in_args)
        config = deployments.sized(manifests.service, in_args)
        found += connections.hosts(manifests, config)
        found += outside.problems(manifests, config)
        found += serve_config.vllm_args(manifests, config, vllm_error)
        found += sizing.problems(manifests, config)
        found += lifecycle.problems(manifests, config, usage_error)
        found += folders.problems(manifests, config)
        found += responses.problems(manifests, config)
        found += authentication.problems(manifests, config)
    return list(dict.fromkeys(found))


def _without_nulls(value: Any) -> Any:
    """Removes fields that are null, which Kubernetes treats as absent."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
