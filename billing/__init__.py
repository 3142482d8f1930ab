"""How much: usage, allocations, prices, cost on both bases, statements. It knows tenants only."""
