"""A Kubernetes cluster as Berth drives it: rendered objects kept as ordered, pods read as replicas."""
