"""Reports over all tenants for operators: kept as sums by day and month, read in few rows."""
