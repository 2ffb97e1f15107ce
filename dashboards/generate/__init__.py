"""Grafana dashboards and Prometheus rules as code; `make dashboards` writes the files."""
