"""Which configuration on which GPUs: plain Python, frozen problem in, frozen plan out.

>>> from clusters.planning.search.order import plan
"""
