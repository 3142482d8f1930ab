"""Fleet composition: which GPUs to buy or rent for a mix of models and requests, and what each of them serves.

>>> from clusters.planning.composition.solve import largest_rate, least_cost, shortest_makespan
"""
