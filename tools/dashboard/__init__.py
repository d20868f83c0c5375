"""Makes grafana/dashboards/dm-reconciler.json: one module a row, queries in one place. `make dashboards` writes it.

In the form that every Grafana of the last years loads, not in the newer "v2", which older ones do not know.
"""
