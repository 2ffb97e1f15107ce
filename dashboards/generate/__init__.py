"""Grafana's dashboards and Prometheus' rules, as code: `make dashboards` writes them."""
