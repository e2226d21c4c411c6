"""Pictures of the dashboards: what Grafana would show, drawn with matplotlib from a Prometheus.

A stand-in for Grafana where there is none, for the documentation. It knows the kinds of panel, the
options, units and transformations that our dashboards use, and refuses all others.
"""
