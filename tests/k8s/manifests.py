"""The manifests of k8s/ and its overlays, read as the product reads them."""

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest

from serving.deploy.manifests import Manifests, read

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ROOT / "deploy/overlays"
OVERLAY_NAMES = sorted(path.name for path in OVERLAYS.iterdir())
ADD_ONS = sorted(path.name for path in K8S.iterdir() if path.is_dir())
"""Subfolders of what needs further CRDs."""

needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed: overlays are not checked"
)
OVERLAY_PARAMETERS = [pytest.param(name, marks=needs_kubectl) for name in OVERLAY_NAMES]

cached = functools.cache(read)
"""All share what it gives: change a copy."""


def base() -> Manifests:
    """What `kubectl apply -f k8s/` sends."""
    return cached(K8S)


def overlay(name: str) -> Manifests:
    """What `kubectl apply -k deploy/overlays/NAME` sends."""
    return cached(OVERLAYS / name)


def the(manifests: Manifests, kind: str, name: str) -> Object:
    (found,) = [obj for obj in manifests.of_kind(kind) if obj["metadata"]["name"] == name]
    return found
