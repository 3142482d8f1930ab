"""What the benchmarks measure with: load, an upstream that costs next to nothing, processes, quantiles."""
