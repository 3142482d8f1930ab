"""One order: every candidate is chosen or refused with a reason.

>>> from clusters.planning.search.order import plan
"""
