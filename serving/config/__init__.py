"""The configuration of an application, and how it is read from a Ray Serve config file."""

from serving.config.application import AppConfig, ConfigError, TracingConfig, load
from serving.config.model import ANY_ADDRESS, ModelConfig
from serving.config.router import (
    AdmissionConfig,
    BatchesConfig,
    LedgerConfig,
    ResponsesConfig,
    RouterConfig,
    TlsConfig,
)

__all__ = [
    "ANY_ADDRESS",
    "AdmissionConfig",
    "AppConfig",
    "BatchesConfig",
    "ConfigError",
    "LedgerConfig",
    "ModelConfig",
    "ResponsesConfig",
    "RouterConfig",
    "TlsConfig",
    "TracingConfig",
    "load",
]
