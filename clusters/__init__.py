"""Where it runs: regions, clusters, GPU capacity, catalog, SLO classes, endpoints and their life."""
