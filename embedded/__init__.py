"""Plain-Python support: the data folder, child processes, PostgreSQL and Redis from wheels, the runner."""
