"""Who: tenants, projects, people, roles, keys, quotas; the tenant scope that isolates them."""
