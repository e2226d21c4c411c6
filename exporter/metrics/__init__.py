"""The table: each metric family declared once, and the exposition made from it.

To add a metric: a field in ``model``, a line in each backend that can supply it, an entry in one of
the tables here, ``make update``.
"""
