"""A small client of Berth's REST API. It imports nothing of the rest of the project and can be installed alone."""

__version__ = "0.1.0"
