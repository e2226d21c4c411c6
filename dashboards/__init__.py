"""Grafana dashboards, generated with grafanalib from the metric table."""
