"""What grafanalib lacks: rows, a grid, today's panels; names, units and help from the table.

grafanalib makes the JSON. This layer decides, in one place for all dashboards, how a panel of each
kind looks (``panels``, ``tables``), what a query may see (``queries``), where panels go
(``outline``), and drops what Grafana no longer knows (``today``).
"""
