"""The seam to clusters: one small protocol, one module per way of driving a cluster."""
