"""The parts of the stand-in for a Kubernetes API; ``tests.fakes.kube_api`` is its door."""
