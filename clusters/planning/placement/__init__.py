"""Which GPUs: nodes for one order's replicas, pools for a whole fleet."""
