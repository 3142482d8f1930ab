"""Evidence about an endpoint over a period: where it was demanded to run, where it ran, who let it, signed."""
