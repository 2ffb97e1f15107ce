"""The router's metrics, request log, traces and status."""
