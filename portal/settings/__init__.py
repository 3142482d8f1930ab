"""Settings: ``base`` plus one module per way of running. ``env`` alone reads the environment."""
