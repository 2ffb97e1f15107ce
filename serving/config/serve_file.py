"""The Serve config around an application's settings, of which Ray Serve ignores unknown keys."""

from collections.abc import Sequence
from typing import Any

BUILDER = "serving.app:build"
NO_PROXIES = "Disabled"

KEYS = (
    *("proxy_location", "http_options", "grpc_options", "controller_options"),
    *("logging_config", "tracing_config", "applications", "target_capacity"),
)
APPLICATION_KEYS = (
    *("name", "route_prefix", "import_path", "runtime_env", "host", "port", "deployments"),
    *("autoscaling_policy", "args", "logging_config", "external_scaler_enabled"),
)


class ServeFileError(ValueError):
    """The Serve config is not one of this application; the message names the field."""


def application_args(document: Any) -> Any:
    """Returns the settings of the one application in a Serve config. Raises ServeFileError."""
    _check_keys(document, KEYS, "")
    applications = document.get("applications") if isinstance(document, dict) else None
    if not isinstance(applications, list) or len(applications) != 1:
        raise _of_another_form()
    (application,) = applications
    _check_keys(application, APPLICATION_KEYS, "applications[0].")
    if not isinstance(application, dict) or "args" not in application:
        raise _of_another_form()
    if (builder := application.get("import_path", BUILDER)) != BUILDER:
        raise ServeFileError(f"applications[0].import_path: must be {BUILDER} (got {builder!r})")
    if (location := document.get("proxy_location", NO_PROXIES)) != NO_PROXIES:
        raise ServeFileError(
            f"proxy_location: must be {NO_PROXIES}, as the routers listen themselves, and Ray's "
            f"proxies would take their port (got {location!r})"
        )
    return application["args"]


def _check_keys(section: Any, allowed: Sequence[str], where: str) -> None:
    unknown = [key for key in section if key not in allowed] if isinstance(section, dict) else ()
    for key in unknown:
        raise ServeFileError(f"{where}{key}: unknown field; allowed are: {', '.join(allowed)}")


def _of_another_form() -> ServeFileError:
    return ServeFileError(
        "expected one application with its settings under applications[0].args; "
        "deploy/serve/local.yaml shows the form"
    )
