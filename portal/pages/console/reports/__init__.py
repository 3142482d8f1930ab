"""The operators' reports, one module per page. What they ask for is in their address, all of it."""
