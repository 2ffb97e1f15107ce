"""All rules over the manifests of one service."""

from dataclasses import replace
from typing import Any

from serving.deploy.errors import BadInput
from serving.deploy.finding import Finding
from serving.deploy.kube import named
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
from serving.deploy.lint.pods import WORKLOADS
from serving.deploy.lint.rules import report_on
from serving.deploy.manifests import Manifests

_READING_ERRORS = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, BadInput)
"""Errors of a rule that reads an object which lacks a field or has one of another type."""


def lint(manifests: Manifests, usage_error: lifecycle.UsageError) -> list[Finding]:
    """The rules that the manifests break, each finding once. `usage_error` gives the error of a
    `mistral-serve` command line. Raises BadInput unless there is one RayService.
    """
    objects = [_without_nulls(obj) for obj in manifests.objects]
    manifests = replace(manifests, objects=tuple(objects))
    service = manifests.service
    try:
        return _broken(manifests, usage_error)
    except _READING_ERRORS as error:
        subject, reason = named(service), error
    # The malformed object is the first that the rules cannot read: pods, then what selects those.
    objects.sort(key=lambda obj: (obj is not service, obj["kind"] not in WORKLOADS))
    for count, obj in enumerate(objects, 1):
        try:
            _broken(replace(manifests, objects=tuple(objects[:count])), usage_error)
        except _READING_ERRORS as error:
            subject, reason = named(obj), error
            break
    what = f"missing field {reason}" if isinstance(reason, KeyError) else reason
    message = f"the manifest does not have the form that Kubernetes expects ({what})"
    return [report_on(subject, "linter")("malformed", message)]


def _broken(manifests: Manifests, usage_error: lifecycle.UsageError) -> list[Finding]:
    found = [
        *references.problems(manifests),
        *connections.problems(manifests),
        *network.problems(manifests),
        *security.problems(manifests),
        *kuberay.problems(manifests.service),
        *serve_config.problems(manifests),
    ]
    if (config := serve_config.valid(manifests.service)) is not None:
        found += sizing.problems(manifests, config)
        found += lifecycle.problems(manifests, config, usage_error)
    return list(dict.fromkeys(found))


def _without_nulls(value: Any) -> Any:
    """Removes fields that are null, which Kubernetes treats as absent."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
