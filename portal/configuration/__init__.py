"""Configuration as code: orders, classes, catalog, prices and policies as documents, exported, compared and applied.

A document has ``apiVersion: berth/v1``, a ``kind``, ``metadata`` (name, and where it belongs) and a ``spec``. Each kind
has a module in :mod:`portal.configuration.kinds`; applying calls the services that pages and API call.
"""
